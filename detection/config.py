"""A recipe is read: one YAML, checked key by key. Torch-free, so that `--help` and bad recipes answer at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from detection.recipe import PresetName, Recipe
from detection.runtime.errors import SwathError


class RecipeError(SwathError):
    """A recipe that cannot be used; the message names the key and the nearest valid one."""


_FILE_KEYS = (
    ("data", "train"),
    ("data", "val"),
    ("data", "images_dir"),
    ("data", "negatives"),
    ("model", "weights"),
    ("distill", "teacher"),
)
_WORDS = ("coco", "imagenet", "imagenet-offline", "none")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe. Defaults < the YAML < overrides.

    Args:
        path: the YAML. Relative paths in it start at its own folder.
        overrides: `key.path=value` each, the value in YAML. Relative paths start at the current folder.

    Raises:
        RecipeError: no such file, not YAML, an unknown key, or a value of the wrong type or range.

    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; see configs/ for the ones that come with Swath")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise RecipeError(f"{path}{line}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    _resolve_paths(content, path.parent)
    for override in overrides:
        _apply(content, override)
    _resolve_paths(content, Path.cwd())
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(_explain(e) for e in error.errors())) from None


def _resolve_paths(content: dict[str, Any], folder: Path) -> None:
    for section, key in _FILE_KEYS:
        part = content.get(section)
        words = get_args(PresetName) if key == "teacher" else _WORDS
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key] not in words:
            part[key] = _resolved(part[key], folder)


def _resolved(text: str, folder: Path) -> str:
    if text.startswith("hub:"):
        repository, colon, entry = text.removeprefix("hub:").rpartition(":")
        is_folder = repository.startswith(("/", ".", "~"))
        return f"hub:{_resolved(repository, folder)}{colon}{entry}" if is_folder else text
    return str(Path(folder, Path(text).expanduser()).resolve())


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"-s {override}: write key.path=value, such as -s train.epochs=10")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"-s {override}: the value is not YAML; put quotes around it") from None
    for step in steps[:-1]:
        if content.get(step) is None:
            content[step] = {}
        content = content[step]
        if not isinstance(content, dict):
            raise RecipeError(f"-s {override}: {step} is not a section")
    content[steps[-1]] = value


def _sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    yield prefix, model
    for name, info in model.model_fields.items():
        for kind in get_args(info.annotation) or (info.annotation,):  # `Tiles | None` is a section too
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _sections(kind, f"{prefix}{name}.")


def _explain(error: Any) -> str:
    key = ".".join(str(step) for step in error["loc"] if isinstance(step, str))
    if error["type"] == "extra_forbidden":
        valid = [prefix + name for prefix, model in _sections(Recipe) for name in model.model_fields]
        leaf = key.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(key, valid, 1, 0.6) or [v for v in valid if v.rsplit(".")[-1] == leaf]
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{key}: missing"
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # keys that do not go together
        return f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"])
    value = repr(error["input"])
    if key == "model.preset":
        near = difflib.get_close_matches(str(error["input"]), get_args(PresetName), 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{key}: no preset {value}{hint}"
    return f"{key}: {error['msg']}, got {value if len(value) < 60 else value[:57] + '...'}"


def config_folder() -> Path:
    """Where the recipes that come with Swath lie: beside the package in a checkout, inside it in a wheel."""
    here = Path(sys.modules["detection"].__file__ or ".").parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
