"""The reference of a recipe's and a machine's keys, from the pydantic models themselves."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from detection.models import presets
from detection.recipe.schema import Recipe
from detection.runtime.operations.machine import Machine

RECIPE_PAGE, MACHINE_PAGE = "reference/recipe.md", "reference/machine.md"

_RECIPE = """# Recipe keys

A recipe is one YAML under `configs/` or of your own. Unknown keys and wrong types are errors that name the key
and the nearest valid one. Defaults < the YAML < `-s key=value` on the command line. Every key but `data.train` has a
default.
"""
_MACHINE = """# Machine keys

`swath machine example` prints a complete `machine.yaml`; `swath machine check` checks one. Relative paths start at
the folder of the YAML; `${NAME}` in any value is the environment variable of that name.
"""


def recipe_page() -> str:
    """Every key of a recipe, by section, as Markdown."""
    return _page(_RECIPE, Recipe)


def machine_page() -> str:
    """Every key of a machine's YAML, by section, as Markdown."""
    return _page(_MACHINE, Machine)


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a model and of the models inside it, with dots: `train.epochs`; lists add `[]`."""
    for name, field in _fields(model):
        path = f"{prefix}{field.alias or name}"
        yield path, field
        for inner, brackets in _models(field.annotation):
            yield from keys(inner, f"{path}{brackets}.")


def _page(intro: str, model: type[BaseModel]) -> str:
    own = [(name, field) for name, field in _fields(model) if not list(_models(field.annotation))]
    parts = [intro, *_table(own, "")]
    for name, field in _fields(model):
        for inner, brackets in _models(field.annotation):
            parts += _section(f"{name}{brackets}", field, inner)
    return "\n".join(parts)


def _section(path: str, field: FieldInfo | None, model: type[BaseModel]) -> list[str]:
    parts = [f"## {path} {{#{path.replace('[]', '')}}}", "", _first_paragraph(model)]
    if field is not None and field.description and field.default is None:
        parts += ["", f"{_sentence(field.description)}."]
    parts += ["", *_table(list(_fields(model)), f"{path}.")]
    for name, inner_field in _fields(model):
        for inner, brackets in _models(inner_field.annotation):
            parts += _section(f"{path}.{name}{brackets}", inner_field, inner)
    return parts


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model; in place of a preset's options, those of every preset, with the presets' names."""
    for name, field in model.model_fields.items():
        if field.annotation is not presets.PresetOptions:
            yield name, field
            continue
        options = {key: option for kind in presets.KINDS for key, option in kind.options.model_fields.items()}
        for key, option in options.items():
            owners = ", ".join(kind.name for kind in presets.KINDS if key in kind.options.model_fields)
            yield key, FieldInfo.merge_field_infos(option, description=f"{option.description}; of {owners}")


def _table(fields: list[tuple[str, FieldInfo]], prefix: str) -> list[str]:
    if not fields:
        return []
    rows = [f"| `{prefix}{field.alias or name}` | {_cell(_about(field))} |" for name, field in fields]
    return ["| key | |", "|---|---|", *rows, ""]


def _about(field: FieldInfo) -> str:
    """What a key is; in a second line its type and its default."""
    default = _default(field)
    facts = ", ".join(part for part in (_kind(field), default and f"default {default}") if part)
    required = "required, " if field.is_required() else ""
    return f"{field.description or ''}<br><small>{required}{facts}</small>"


def _models(annotation: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """The models in an annotation; with `[]` where it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    elif get_origin(annotation) in (tuple, list):
        yield from ((model, "[]") for model, _ in _models(get_args(annotation)[0]))
    elif get_origin(annotation) in (Union, types.UnionType):
        found = [model for part in get_args(annotation) for model in _models(part)]
        if len(found) < 2:
            yield from found
        else:  # of several kinds, as cameras are: one table with the keys of them all
            kinds: Any = tuple(model for model, _ in found)
            base = next(parent for parent in kinds[0].__mro__ if all(issubclass(kind, parent) for kind in kinds))
            yield create_model(base.__name__, __base__=kinds, __doc__=base.__doc__), found[0][1]


def _kind(field: FieldInfo) -> str:
    limits = [_limit(rule) for rule in field.metadata]
    return "".join([_type(field.annotation), *(f", {limit}" for limit in limits if limit)])


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [limit for rule in inner[1:] for limit in _limits(rule)]
        return ", ".join([_type(inner[0]), *limits])
    if origin is Literal:
        return " | ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " | ".join(_type(part) for part in inner)
    if origin in (tuple, list):
        items = [part for part in inner if part is not Ellipsis]
        any_number = Ellipsis in inner or origin is list
        return f"list of {_type(items[0])}" if any_number else f"{len(items)} x {_type(items[0])}"
    if origin is dict:
        return f"{_type(inner[0])}: {_type(inner[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {str: "text", int: "integer", float: "number", bool: "true | false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(rule: Any) -> list[str]:
    return [text for text in (_limit(part) for part in getattr(rule, "metadata", [rule])) if text]


def _limit(rule: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of", "min_length": "at least"}
    named = ((sign, getattr(rule, name, None)) for name, sign in signs.items())
    return ", ".join(f"{sign} {value:g}" for sign, value in named if isinstance(value, int | float))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=False)
    if field.is_required() or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
