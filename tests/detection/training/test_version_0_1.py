"""A run of version 0.1.0 is resumed, and gives the boxes that version 0.1.0 gave."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file

from detection.models.checkpoint import load_trained, load_training_state
from detection.models.torch_detector import TorchDetector
from detection.recipe.reading import load_recipe
from detection.training.train import train
from tests.detection.conftest import Quiet, write_recipe
from tests.detection.training.test_train import StopAfter, TrainingError, rows


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2].strip() for line in lines if line.startswith("model name"))


def test_its_best_weights_give_the_same_boxes(version_0_1: Path, one_thread) -> None:
    stored = json.loads((version_0_1 / "boxes.json").read_text())
    made_with, expected = stored["made_with"], stored["best.safetensors"]
    found = TorchDetector.of(load_trained(version_0_1 / "run"))(cv2.imread(str(version_0_1 / "field.png")))
    assert len(found) == 100
    here = (torch.__version__, torchvision.__version__, torch.backends.cpu.get_cpu_capability())
    # other kernels may sum in another order; with the same ones the boxes are equal to the last bit
    same = here == (made_with["torch"], made_with["torchvision"], made_with["cpu_capability"])
    same = same and cpu() == made_with["cpu"]
    atol = 0 if same else 1e-3
    np.testing.assert_array_equal(found.labels, expected["labels"])
    np.testing.assert_allclose(found.scores, np.array(expected["scores"], np.float32), rtol=0, atol=atol)
    np.testing.assert_allclose(found.boxes_xyxy, np.array(expected["boxes_xyxy"], np.float32), rtol=0, atol=atol)


def test_its_last_checkpoint_is_resumed(version_0_1: Path, rendered: Path, tmp_path: Path, caplog) -> None:
    out = tmp_path / "run"
    shutil.copytree(version_0_1 / "run", out)
    saved = load_training_state(out / "last.ckpt")
    assert saved["state"]["step"] == 120 and "average" in saved
    shutil.copy(out / "config.yaml", tmp_path / "recipe.yaml")
    # the run's own words: train.accumulate, train.average, train.thaw, model.assign=centre, picture-unreadable
    recipe = load_recipe(tmp_path / "recipe.yaml", [f"data.train={rendered}", "train.epochs=42"])
    assert recipe.train.freeze_backbone == 0.999 and recipe.data.allow == ("image-unreadable",)
    assert "train.thaw is now train.freeze_backbone" in caplog.text
    before = load_file(out / "best.safetensors")
    watcher = Quiet()
    train(recipe, out, watcher=watcher, resume=True)
    assert [int(row["step"]) for row in rows(out)] == list(range(1, 127))  # 12 images, 4 per step
    assert len(watcher.losses) == 6 and all(0 < loss < 3 for loss in watcher.losses)
    after = load_file(out / "best.safetensors")
    frozen = [name for name in before if name.startswith("backbone.body.") and before[name].ndim == 4]
    assert len(frozen) == 16 and all(torch.equal(before[name], after[name]) for name in frozen)
    head = "head.classification_head.cls_logits.weight"
    assert not torch.equal(before[head], after[head])
    assert "ema" in load_training_state(out / "last.ckpt") and "thaw" not in (out / "config.yaml").read_text()


def test_a_moving_average_under_its_old_name_is_resumed_to_the_last_bit(rendered: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train={"ema_decay": 0.9}))
    train(recipe, tmp_path / "whole", watcher=Quiet())
    first = StopAfter(3)
    with pytest.raises(TrainingError, match="stopped at step 3 of 6"):
        train(recipe, tmp_path / "halves", watcher=first, stop=first.stop)
    last = tmp_path / "halves" / "last.ckpt"
    saved = load_training_state(last)
    saved["average"] = saved.pop("ema")
    assert saved["average"] is not None
    torch.save(saved, last)
    train(recipe, tmp_path / "halves", watcher=Quiet(), resume=True)
    one, two = (load_file(tmp_path / run / "best.safetensors") for run in ("whole", "halves"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
