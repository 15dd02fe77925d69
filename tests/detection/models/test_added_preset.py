"""One new file and one line in KINDS: the recipe, the messages, training, export and Torch Hub know the preset."""

import importlib.util
from pathlib import Path

import onnx
import pytest
import torch

from data import load_dataset
from detection.export.export import export
from detection.models import presets
from detection.models.build import build_model
from detection.models.checkpoint import load_trained
from detection.models.freezing import freeze_stem
from detection.recipe.reading import RecipeError, load_recipe
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError
from detection.training.train import train
from tests.detection.conftest import Quiet, trained_of, write_recipe
from tests.detection.export.parity.faults import planted_are_refused
from tests.detection.models.added_preset import KIND

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "KINDS", (*presets.KINDS, KIND))


def test_the_file_is_short() -> None:
    assert len(Path(__file__).with_name("added_preset.py").read_text().splitlines()) <= 60


def test_messages_and_choices_know_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {train: x}\nmodel: {preset: retinanet_resnet81}")
    with pytest.raises(
        RecipeError, match="model.preset: no preset 'retinanet_resnet81'; did you mean retinanet_resnet18"
    ):
        load_recipe(path)
    path.write_text("data: {train: x}\nmodel: {preset: fcos_lite, smallest_anchor_px: 16}")
    with pytest.raises(RecipeError, match="smallest_anchor_px: fcos_lite does not use it; retinanet_resnet18 does"):
        load_recipe(path)
    path.write_text("data: {train: x}\nmodel: {preset: retinanet_resnet18, smallest_anchor_px: 2}")
    with pytest.raises(
        RecipeError, match="model.smallest_anchor_px: Input should be greater than or equal to 4, got 2"
    ):
        load_recipe(path)
    with pytest.raises(SwathError, match="model.channels: retinanet_resnet18 does not use it; fcos_lite, "):
        build_model("retinanet_resnet18", 2, channels=32)


def test_torch_hub_has_an_entry_for_it() -> None:
    spec = importlib.util.spec_from_file_location("hubconf_with_one_more", ROOT / "hubconf.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "RetinaNet, ResNet-18" in module.retinanet_resnet18.__doc__


def test_its_stem_can_be_frozen() -> None:
    with torch.device("meta"):
        model = build_model("retinanet_resnet18", 2)
    freeze_stem(model, "retinanet_resnet18")
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen and all(
        name.startswith(("backbone.body.conv1.", "backbone.body.bn1.", "backbone.body.layer1.")) for name in frozen
    )


def test_it_is_trained_saved_and_read_again(tmp_path: Path, rendered: Path) -> None:
    section = {"preset": "retinanet_resnet18", "weights": "none", "smallest_anchor_px": 8}
    path = write_recipe(tmp_path / "r.yaml", rendered, train={"freeze_stem": False})
    recipe = load_recipe(path, [f"model={section}".replace("'", '"')])
    assert recipe.model.backbone == "resnet18"
    watcher = Quiet()
    train(recipe, tmp_path / "run", watcher=watcher)
    assert len(watcher.losses) == 6
    trained = load_trained(tmp_path / "run")
    assert trained.config.options == {"smallest_anchor_px": 8}
    assert trained.model.anchor_generator.sizes[0] == (8,)


def test_it_is_exported(tmp_path: Path, lively, coco_file) -> None:
    model = lively("retinanet_resnet18", smallest_anchor_px=8)
    trained = trained_of("retinanet_resnet18", model, smallest_anchor_px=8)
    images = load_dataset(coco_file([[(3, (10, 10, 60, 40))], []], names=("crop", "weed")))
    report = export(trained, tmp_path / "m.onnx", images=images, held_out=False)
    assert report["boxes"] > 100 and report["unmatched_boxes"] == 0
    planted_are_refused(onnx.load(tmp_path / "m.onnx"), trained)
    metadata = Detector(tmp_path / "m.onnx").metadata
    assert (metadata.preset, metadata.backbone) == ("retinanet_resnet18", "resnet18")
