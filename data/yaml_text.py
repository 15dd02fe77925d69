"""YAML from strangers, within limits: every fault is one line, nothing hangs or fills the memory.

This file stands in `data` and in `detection.runtime` with the same content: neither may import the other, and a test
holds the two equal.
"""

from __future__ import annotations

from typing import Any

import yaml

LIMIT_BYTES = 1 << 20
"""Largest text that is parsed: Python's YAML takes seconds for it."""

_MOST_NODES = 50_000  # aliases expanded: ten lines of them can stand for more text than a memory holds
_DEEPEST = 50
_LONGEST_NUMBER = 100


class YamlError(ValueError):
    """A text that is no YAML, or none that is read here.

    Attributes:
        problem: in a few words.
        line: where it is, from 1; None: not known.

    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem, self.line = problem, line


def parse_yaml(text: str) -> Any:
    """The value that a YAML text stands for: plain Python, as `yaml.safe_load` gives it.

    Raises:
        YamlError: not YAML, more than one document, a key twice, too large, too deep, or a value that cannot be read.

    """
    loader = None
    try:
        loader = _loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise _described(error) from None
    finally:
        if loader is not None:
            loader.dispose()


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, whose scalars hold the text as written; None where it is empty.

    Raises:
        YamlError: as `parse_yaml`.

    """
    try:
        node: yaml.Node | None = _loader(text).get_single_node()
    except yaml.YAMLError as error:
        raise _described(error) from None
    return node


def _loader(text: str) -> _Loader:
    if len(text) > LIMIT_BYTES:
        raise YamlError(f"larger than {LIMIT_BYTES >> 10} KiB, more than such a file ever needs")
    return _Loader(text)


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._made = 0
        self._sizes: dict[int, int] = {}  # by the node's id: how many nodes it stands for, aliases expanded

    def compose_node(self, parent: Any, index: Any) -> Any:
        is_alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self._depth += 1
        self._made += 1
        if self._depth > _DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"nested more than {_DEEPEST} deep", problem_mark=mark)
        node: Any = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            self._sizes[id(node)] = self._size(node)
        elif id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias that refers to what it stands in", problem_mark=mark)
        if max(self._made, self._sizes[id(node)]) > _MOST_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_MOST_NODES:,} values, aliases expanded", problem_mark=mark
            )
        return node

    def _size(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in seen:
                        raise yaml.MarkedYAMLError(
                            problem=f"the key {key.value[:60]!r} stands there twice", problem_mark=key.start_mark
                        )
                    seen.add((key.tag, key.value))
            return 1 + sum(self._sizes[id(key)] + self._sizes[id(value)] for key, value in node.value)
        if isinstance(node, yaml.SequenceNode):
            return 1 + sum(self._sizes[id(item)] for item in node.value)
        return 1

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
            if len(node.value) > _LONGEST_NUMBER:
                raise yaml.MarkedYAMLError(problem="a number of too many digits", problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception:  # the constructors of dates, numbers and tagged values raise a dozen types
            shown = repr(node.value)[:60] if isinstance(node, yaml.ScalarNode) else "a value"
            tag = str(node.tag).removeprefix("tag:yaml.org,2002:")[:60]
            raise yaml.MarkedYAMLError(
                problem=f"{shown} is no {tag}; put it into quotes", problem_mark=node.start_mark
            ) from None


def _described(error: yaml.YAMLError) -> YamlError:
    if isinstance(error, yaml.reader.ReaderError):
        return YamlError(f"a character that no YAML may hold (#x{int(error.character):02x})")
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "not YAML"
    context = getattr(error, "context", None)
    if context:
        problem = f"{context}, {problem}" if problem.startswith("but ") else f"{problem}, {context}"
    return YamlError(problem, None if mark is None else mark.line + 1)
