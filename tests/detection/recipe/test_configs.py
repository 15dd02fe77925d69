"""The recipes that come with Swath: valid, and complete in their comments."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from data.augmentation.effects import KINDS as EFFECTS
from detection.models.presets import preset_named
from detection.recipe.reading import config_folder, load_recipe
from detection.recipe.schema import Recipe
from tests.detection.conftest import swath, write_recipe

TEMPLATE = config_folder() / "template.yaml"
PATHS = sorted(config_folder().rglob("*.yaml"))


def with_all_keys(text: str) -> str:
    """The template with every key that is commented out in use."""
    return re.sub(r"(?m)^( *)# (\w+:)", r"\1\2", text)


def keys_of_schema(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        sections = [
            kind
            for kind in (info.annotation, *get_args(info.annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if prefix + name == "model.options":  # in YAML they are keys of model
            yield from (f"model.{key}" for key in preset_named("fcos_lite").options.model_fields)
        elif sections:
            yield from keys_of_schema(sections[0], f"{prefix}{name}.")
        else:
            yield prefix + name


def keys_of_yaml(content: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from keys_of_yaml(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_the_template_has_every_key() -> None:
    expected = set(keys_of_schema(Recipe))
    assert len(expected) > 90
    # an effect is added in its own file and one line: the template lists those that were there when it was written
    effects = {f"augment.{key}" for effect in EFFECTS for key in (effect.name, *effect.settings.model_fields)}
    listed = [key for key, _ in keys_of_yaml(yaml.safe_load(with_all_keys(TEMPLATE.read_text())))]
    assert len(listed) == len(set(listed))
    assert expected - effects <= set(listed) <= expected
    assert len(effects & set(listed)) >= 22


def test_the_template_is_valid_as_it_is_and_with_all_its_keys(tmp_path: Path) -> None:
    assert load_recipe(TEMPLATE).data.train == str(config_folder().parent / "parts" / "train.json")
    (tmp_path / "all.yaml").write_text(with_all_keys(TEMPLATE.read_text()))
    whole = load_recipe(tmp_path / "all.yaml")
    assert whole.data.tiles is not None and whole.pretrain is not None and whole.distill is not None


def test_keys_that_are_commented_out_show_their_defaults(tmp_path: Path) -> None:
    text = TEMPLATE.read_text()
    in_use = {key for key, _ in keys_of_yaml(yaml.safe_load(text))}
    (tmp_path / "defaults.yaml").write_text(
        "data: {train: x, tiles: {}}\npretrain: {}\ndistill: {teacher: fasterrcnn_resnet50_fpn_v2}"
    )
    defaults = yaml.safe_load(load_recipe(tmp_path / "defaults.yaml").to_yaml())
    compared = 0
    for key, value in keys_of_yaml(yaml.safe_load(with_all_keys(text))):
        if key not in in_use:
            default = defaults
            for step in key.split("."):
                default = default[step]
            assert value == default, key
            compared += 1
    assert compared > 80


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_recipe_says_how_to_get_its_images(path: Path, tmp_path: Path, capsys) -> None:
    """In its first lines and in the error where they are missing."""
    recipe = load_recipe(path)
    assert path.read_text().startswith("# swath ")
    missing = [f"--set=data.{part}={tmp_path / 'absent'}" for part in ("train", "val")]
    code, _, error = swath(capsys, "train", path, *missing, "--out", tmp_path / "run")
    last = " ".join(error.splitlines()[-1].split())
    assert code == 1 and f"data.train: {tmp_path / 'absent'}: no such file or folder" in last
    assert "your own images: -s data.train=DATASET" in last
    if path != TEMPLATE:
        assert recipe.data.how_to_get and recipe.data.how_to_get in last
    assert not (tmp_path / "run").exists()


def test_a_validation_split_that_is_missing_is_said(tmp_path: Path, rendered: Path, capsys) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", rendered, data={"val": str(tmp_path / "absent")})
    code, _, error = swath(capsys, "train", recipe, "--out", tmp_path / "run")
    assert code == 1 and "data.val: " in error and "your own images: -s data.val=DATASET" in error.splitlines()[-1]
