"""Settings that are validated key by key: recipes and machines. Errors are one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from detection.runtime.errors import SwathError
from detection.runtime.yaml_text import LIMIT_BYTES, YamlError, parse_yaml

STANDARD_OUTPUT = Path("-")
"""Where a path may mean the standard output instead of a file."""


def beside_the_file(path: Path, info: ValidationInfo) -> Path:
    """A path of a settings file: relative ones start at its folder (`folder` in the validation context)."""
    folder = (info.context or {}).get("folder", Path())
    return path if path == STANDARD_OUTPUT else Path(folder, path.expanduser())


HomePath = Annotated[Path, AfterValidator(beside_the_file)]
"""Relative paths start at the folder of the YAML."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """Settings of one thing: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def number_as_text(value: object) -> object:
    """A number where a text is wanted, as YAML has it where quotes are left out."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_mapping(path: Path, error: type[SwathError], *, what: str, model: type[BaseModel]) -> dict[str, Any]:
    """The content of a YAML file that holds one mapping.

    Args:
        path: the file, which is there.
        error: what is raised.
        what: what the file is, in a word or two: "a recipe".
        model: whose keys the mapping should have.

    Raises:
        SwathError: of the class `error`: not YAML, or no mapping.

    """
    try:
        with path.open("rb") as file:
            text = file.read(LIMIT_BYTES + 1).decode("utf-8-sig")
        content = with_text_keys(parse_yaml(text))
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror or fault})") from None
    except UnicodeDecodeError:
        raise error(f"{path}: not YAML (it is not UTF-8 text); save it as UTF-8") from None
    except YamlError as fault:
        where = f"{path}, line {fault.line}" if fault.line else str(path)
        raise error(f"{where}: not YAML ({fault.problem})") from None
    except ValueError as fault:
        raise error(f"{path}: {fault}") from None
    if not isinstance(content, dict):
        raise error(f"{path}: {what} is a mapping with the keys {', '.join(model.model_fields)}")
    return content


def with_text_keys(value: Any, key: str = "") -> Any:
    """A value of YAML, whose keys are all text.

    Raises:
        ValueError: a key is something else: for YAML, `on` is true, `010` is 8 and nothing is null.

    """
    if isinstance(value, list | tuple):
        return [with_text_keys(item, key) for item in value]
    if not isinstance(value, dict):
        return value
    for name in value:
        if not isinstance(name, str):
            place = f"{key}: " if key else ""
            raise ValueError(f"{place}the key {str(name)[:60]!r} is no text for YAML; put it into quotes")
    return {name: with_text_keys(item, f"{key}.{name}" if key else name) for name, item in value.items()}


def explain(fault: Any, model: type[BaseModel]) -> str:
    """One of pydantic's errors in words: the key's path, what is wrong, and the nearest valid key.

    Args:
        fault: an entry of `ValidationError.errors()`.
        model: what was validated.

    """
    steps = tuple(step for step in fault["loc"] if not _is_tag(step))
    key = ".".join(step for step in steps if isinstance(step, str))
    if fault["type"] == "extra_forbidden":
        valid = [prefix + name for prefix, section in _sections(model) for name in section.model_fields]
        leaf = key.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(key, valid, 1, 0.6) or [v for v in valid if v.rsplit(".")[-1] == leaf]
        return f"{shown(steps)}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    key = shown(steps)
    if fault["type"] == "missing":
        return f"{key}: {'too few values' if isinstance(steps[-1], int) else 'missing'}"
    of_ours = fault["type"] == "value_error"
    message = str(fault["ctx"]["error"]) if of_ours else _PLAIN.get(fault["type"], fault["msg"])
    if of_ours and isinstance(fault["input"], dict):  # keys that do not go together
        return f"{key}: {message}" if key else message
    value = repr(fault["input"])
    return f"{key}: {message}, got {value if len(value) < 60 else value[:57] + '...'}"


def tag_of(name: str) -> str:
    """The tag of a model in a discriminated union: pydantic puts it into the path of an error, where it is no key."""
    return f"<{name}>"


_PLAIN = dict.fromkeys(
    ("model_type", "model_attributes_type", "dataclass_type", "dataclass_exact_type", "dict_type", "mapping_type"),
    "must be a mapping of keys to values",
) | {"path_type": "Input is not a valid path", "is_instance_of": "is of another type than was written"}
"""Messages of pydantic that name classes of Python, in words that a user of YAML knows."""

_BRANCH = re.compile(
    r"<.*|(int|float|str|bool)$|(list|tuple|dict|literal|nullable)\[.*|(constrained|function|lax-or|is-inst).*"
)


def _is_tag(step: str | int) -> bool:
    """Whether a step of an error's path is the branch of a union that was tried, and no key."""
    return isinstance(step, str) and _BRANCH.match(step) is not None


def shown(steps: tuple[str | int, ...]) -> str:
    """A key's path: "cameras[1].source"; places in a plain list of numbers are left out."""
    path = ""
    for place, step in enumerate(steps):
        if isinstance(step, str):
            path += f".{step}" if path else step
        elif place + 1 < len(steps):
            path += f"[{step}]"
    return path


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, model
    for name, info in model.model_fields.items():
        for section in _models_in(info.annotation):
            yield from _sections(section, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """`Tiles`, `Tiles | None`, `tuple[Camera, ...]`, and unions of cameras: sections all of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
