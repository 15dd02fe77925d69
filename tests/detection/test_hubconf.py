"""The entries as a stranger calls them: from another folder, by `torch.hub.load` on a clone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detection.models.presets import preset_names
from detection.models.weight_sources import WeightsError

CLONE = Path(__file__).resolve().parents[2]


def load(entry: str, **options):
    return torch.hub.load(str(CLONE), entry, source="local", **options)


def test_every_preset_is_an_entry() -> None:
    spec = importlib.util.spec_from_file_location("its_hubconf", CLONE / "hubconf.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # by Torch Hub's own rule: every public callable
    entries = {name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")}
    assert entries == {*preset_names(), "trained"}
    assert "num_classes: classes without a background" in module.fcos_lite.__doc__
    assert all(importlib.util.find_spec(name) for name in module.dependencies)


def test_an_entry_starts_pretrained_or_not_at_all() -> None:
    model = load("fcos_lite", num_classes=2, channels=32, nms_iou=0.5)
    # pretrained edges have contrast; a random start of this layer is several times weaker
    assert model.backbone.body.conv_stem.weight.std() > 0.2
    assert model.nms_thresh == 0.5
    fresh = load("fcos_lite", num_classes=2, channels=32, weights="none")
    assert fresh.backbone.body.conv_stem.weight.std() < 0.2
    with pytest.raises(WeightsError, match="imagenet-offline holds tf_efficientnet_lite0 only"):
        load("fcos_lite", num_classes=2, backbone="mobilenetv3_small_050", weights="imagenet-offline")


def test_a_run_is_an_entry_too(run: Path) -> None:
    model = load("trained", run=str(run))
    assert not model.training
    assert set(model.eval()([torch.rand(3, 128, 160)])[0]) == {"boxes", "scores", "labels"}


def test_a_clone_works_from_any_folder_without_being_installed(tmp_path: Path) -> None:
    code = (
        "import torch, sys; assert 'detection' not in sys.modules;"
        f"model = torch.hub.load({str(CLONE)!r}, 'fcos_lite_n', source='local', num_classes=4, weights='none');"
        "import detection; print(detection.__file__, model.head.classification_head.num_classes)"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [str(CLONE / "detection" / "__init__.py"), "4"]
