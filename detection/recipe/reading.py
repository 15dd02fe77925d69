"""A recipe is read: one YAML, checked key by key. Torch-free, so that `--help` and bad recipes answer at once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detection.models.presets import preset_names
from detection.recipe import compatibility
from detection.recipe.schema import Recipe
from detection.runtime.errors import SwathError, reason
from detection.runtime.settings import explain, read_mapping, with_text_keys
from detection.runtime.yaml_text import YamlError, parse_yaml

_log = logging.getLogger(__name__)


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
    try:
        content, notes = compatibility.current_recipe(content)
        _resolve_paths(content, path.parent)
        for override in overrides:
            notes += _apply(content, override)
        _resolve_paths(content, Path.cwd())
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: " + "; ".join(explain(e, Recipe) for e in error.errors())) from None
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from None
    except (OSError, RuntimeError) as error:  # a path that the system refuses to look at; `~nobody`
        raise RecipeError(f"{path}: a path in it cannot be used ({reason(error)})") from None
    for note in notes:
        _log.warning("%s: %s", path, note)
    return recipe


def written_recipe(content: Mapping[str, Any]) -> Recipe:
    """The recipe that a run or checkpoint was made by, of this version or an earlier one.

    Args:
        content: as `Recipe.model_dump` gave it. Keys that the preset does not use are ignored: earlier versions
            wrote all.

    Raises:
        RecipeError: not a recipe of Swath's.

    """
    try:
        return Recipe.model_validate(compatibility.current_written_recipe(content))
    except ValidationError as error:
        raise RecipeError("; ".join(explain(e, Recipe) for e in error.errors())) from None


def load_written_recipe(run: Path) -> Recipe | None:
    """The recipe in a run folder; None where there is none.

    Raises:
        RecipeError: it cannot be read.

    """
    path = run / "config.yaml"
    if not path.is_file():
        return None
    try:
        return written_recipe(read_mapping(path, RecipeError, what="a recipe", model=Recipe))
    except RecipeError as error:
        raise RecipeError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _resolve_paths(content: dict[str, Any], folder: Path) -> None:
    for section, key in _FILE_KEYS:
        part = content.get(section)
        words = preset_names() if key == "teacher" else _WORDS
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key] not in words:
            part[key] = _resolved(part[key], folder)


def _resolved(text: str, folder: Path) -> str:
    if text.startswith("hub:"):
        repository, colon, entry = text.removeprefix("hub:").rpartition(":")
        is_folder = repository.startswith(("/", ".", "~"))
        return f"hub:{_resolved(repository, folder)}{colon}{entry}" if is_folder else text
    return str(Path(folder, Path(text).expanduser()).resolve())


def _apply(content: dict[str, Any], override: str) -> list[str]:
    """Set one key in `content`: a line for each name of an earlier version in the override."""
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"-s {override}: write key.path=value, such as -s train.epochs=10")
    try:
        value = with_text_keys(parse_yaml(text))
    except YamlError as error:
        raise RecipeError(f"-s {override}: the value is not YAML ({error}); put quotes around it") from None
    except ValueError as error:
        raise RecipeError(f"-s {override}: {error}") from None
    for step in reversed(steps[1:]):
        value = {step: value}
    # an old name must replace the value that the recipe has under the new one
    changes, notes = compatibility.current_recipe({steps[0]: value})
    _merge(content, changes, override, depth=len(steps))
    return notes


def _merge(content: dict[str, Any], changes: Mapping[str, Any], override: str, depth: int) -> None:
    """Set in `content` what `changes` holds `depth` keys deep; sections that are missing or null are made."""
    for key, value in changes.items():
        if depth == 1:
            content[key] = value
            continue
        if content.get(key) is None:
            content[key] = {}
        if not isinstance(content[key], dict):
            raise RecipeError(f"-s {override}: {key} is not a section")
        _merge(content[key], value, override, depth - 1)


def config_folder() -> Path:
    """Where the recipes that come with Swath lie: beside the package in a checkout, inside it in a wheel."""
    here = Path(sys.modules["detection"].__file__ or ".").parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
