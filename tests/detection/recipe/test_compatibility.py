import logging
from pathlib import Path

import pytest

from detection.recipe.compatibility import current_recipe, current_training_state
from detection.recipe.reading import RecipeError, load_recipe, written_recipe

OLD = """
data: {train: photos, allow: [picture-unreadable, splits-identical]}
train: {accumulate: 2, average: 0.99, backbone_rate: 0.1, thaw: 0.2}
pretrain: {pictures: 100}
distill: {teacher: retinanet_resnet50_fpn_v2, kind: foreground}
"""
NEW = """
data: {train: photos, allow: [image-unreadable, splits-identical]}
train: {gradient_accumulation: 2, ema_decay: 0.99, backbone_lr_multiplier: 0.1, freeze_backbone: 0.2}
pretrain: {images: 100}
distill: {teacher: retinanet_resnet50_fpn_v2}
"""


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, *overrides: str):
        (tmp_path / "r.yaml").write_text(text)
        return load_recipe(tmp_path / "r.yaml", overrides)

    return read


def test_old_keys_of_a_recipe_are_read_and_each_is_answered_by_a_line(read, tmp_path, caplog) -> None:
    old = read(OLD)
    assert [record.message.removeprefix(f"{tmp_path / 'r.yaml'}: ") for record in caplog.records] == [
        "train.accumulate is now train.gradient_accumulation",
        "train.average is now train.ema_decay",
        "train.backbone_rate is now train.backbone_lr_multiplier",
        "train.thaw is now train.freeze_backbone",
        "pretrain.pictures is now pretrain.images",
        "data.allow: picture-unreadable is now image-unreadable",
        "distill.kind is gone: foreground is always used",
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    caplog.clear()
    assert read(NEW) == old and not caplog.records


def test_an_old_key_on_the_command_line_wins_over_the_new_one_in_the_recipe(read, caplog) -> None:
    assert read(NEW, "train.average=0").train.ema_decay == 0
    assert read(OLD, "train.ema_decay=0").train.ema_decay == 0
    assert read(NEW, "pretrain.pictures=7", "data.allow=[picture-missing]").pretrain.images == 7
    assert "train.average is now train.ema_decay" in caplog.text


def test_a_value_that_is_no_longer_supported_is_refused(read) -> None:
    with pytest.raises(RecipeError, match="distill.kind: whole is gone; leave the key out") as caught:
        read(OLD.replace("foreground", "whole"))
    assert "\n" not in str(caught.value)
    with pytest.raises(RecipeError, match="distill.kind: whole is gone"):
        read(NEW, "distill.kind=whole")


def test_a_recipe_in_a_checkpoint_is_read_with_values_that_are_no_longer_supported() -> None:
    content = {"data": {"train": "photos"}, "distill": {"teacher": "runs/big", "kind": "whole"}}
    recipe = written_recipe(content)
    assert recipe.distill is not None and recipe.distill.teacher == "runs/big"


def test_unknown_keys_are_still_refused_with_the_nearest_name(read) -> None:
    with pytest.raises(RecipeError, match="train.ema_deca: unknown key; did you mean train.ema_decay"):
        read("data: {train: x}\ntrain: {ema_deca: 0.9}")
    with pytest.raises(RecipeError, match="model.average: unknown key"):
        read("data: {train: x}\nmodel: {average: 0.9}")


def test_todays_names_are_left_alone() -> None:
    content = {"data": {"train": "x", "allow": ["image-missing"]}, "train": {"epochs": 3}, "input": None}
    assert current_recipe(content) == (content, [])
    assert current_training_state({"average": 1, "model": 2}) == {"ema": 1, "model": 2}


def test_the_config_of_an_old_run_that_lists_the_options_of_other_presets_is_read(read, caplog) -> None:
    model = "{preset: ssdlite320_mobilenet_v3_large, backbone: null, neck: null, assign: centre, quality: qfl}"
    assert read(f"data: {{train: x}}\nmodel: {model}").model.preset == "ssdlite320_mobilenet_v3_large"
    assert "model.assign: not for ssdlite320_mobilenet_v3_large" in caplog.text
    with pytest.raises(RecipeError, match="model.assign: ssdlite320_mobilenet_v3_large does not use it"):
        read("data: {train: x}\nmodel: {preset: ssdlite320_mobilenet_v3_large, assign: atss}")
