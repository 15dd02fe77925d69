"""The reference of `swath`'s commands, from the typer application itself."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import typer

from detection.cli.app import app

PAGE = "reference/commands.md"
_INTRO = """# Commands

Every command answers `--help` (`-h`). Errors are one line; `swath --debug COMMAND` shows the traceback. Exit codes:
0 done, 1 failed or found problems, 2 wrong usage, 130 interrupted.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Each command that does something: its full name (`swath data check`) and its click command."""
    yield from _leaves(typer.main.get_command(app), "swath")


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child, sub in children.items():
        if not sub.hidden:
            yield from _leaves(sub, f"{name} {child}")


def page() -> str:
    """The page as Markdown."""
    listed = [(name, command, _sentences(command.help)) for name, command in commands()]
    rows = [f"| [`{name}`](#{_anchor(name)}) | {help_.split(chr(10) * 2)[0]} |" for name, _, help_ in listed]
    parts = [_INTRO]
    parts += ["| command | does |", "|---|---|", *rows, ""]
    for name, command, help_ in listed:
        parts += [f"## {name} {{#{_anchor(name)}}}", "", help_, "", *_examples(command.epilog or "")]
        # get_params and not params: some commands complete their help in it
        parameters = [p for p in command.get_params(typer.Context(command)) if p.name != "help"]
        arguments = [p for p in parameters if type(p).__name__ == "TyperArgument"]
        options = [p for p in parameters if type(p).__name__ == "TyperOption" and not p.hidden]
        parts += _table("argument", arguments) + _table("option", options)
    return "\n".join(parts)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _sentences(text: str | None) -> str:
    """Help text as Markdown: rich's tags taken out, paragraphs kept."""
    plain = re.sub(r"\[/?(bold|dim|italic)\]", "", text or "")
    return "\n\n".join(" ".join(block.split()) for block in plain.split("\n\n"))


def _examples(epilog: str) -> list[str]:
    lines = [line.removeprefix("$ ") for line in epilog.splitlines() if line.startswith("$ ")]
    return ["```sh", *lines, "```", ""] if lines else []


def _table(title: str, parameters: list[Any]) -> list[str]:
    if not parameters:
        return []
    rows = [f"| {_spelling(p)} | {_cell(_sentences(p.help))}{_default(p)} |" for p in parameters]
    return [f"| {title} | |", "|---|---|", *rows, ""]


def _spelling(parameter: Any) -> str:
    value = parameter.metavar or _type_name(parameter.type_descriptor.annotation)
    if type(parameter).__name__ == "TyperArgument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names)
    return _cell(shown if parameter.is_flag else f"{shown} `{value}`")


def _type_name(annotation: Any) -> str:
    """`FLOAT`, `PATH`, or the choices of a Literal."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(str(value) for value in inner)
    if origin in (Union, types.UnionType):
        return _type_name(next(a for a in inner if a is not type(None)))
    if origin in (list, tuple):
        return _type_name(inner[0])
    return {"str": "TEXT", "int": "INTEGER", "float": "NUMBER"}.get(annotation.__name__, annotation.__name__.upper())


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required or value is None or value == [] or value is False or not parameter.show_default:
        return ""
    return f" Default: `{_cell(str(getattr(value, 'value', value)))}`." if not callable(value) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
