"""A recipe is read: one YAML, checked key by key. Torch-free, so that `--help` and bad recipes answer at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from detection.recipe.schema import PresetName, Recipe
from detection.runtime.errors import SwathError
from detection.runtime.settings import explain, read_mapping


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
    content = read_mapping(path, RecipeError, what="a recipe", model=Recipe)
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


def _explain(error: Any) -> str:
    if error["loc"] == ("model", "preset"):
        near = difflib.get_close_matches(str(error["input"]), get_args(PresetName), 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"model.preset: no preset {error['input']!r}{hint}"
    return explain(error, Recipe)


def config_folder() -> Path:
    """Where the recipes that come with Swath lie: beside the package in a checkout, inside it in a wheel."""
    here = Path(sys.modules["detection"].__file__ or ".").parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
