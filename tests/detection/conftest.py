"""Trainings small enough for a test: a few steps, small images, no worker processes."""

from __future__ import annotations

import functools
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from detection.cli.app import main
from detection.training.watcher import Step
from tests.once import once


class Quiet:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.losses: list[float] = []
        self.validations: list[dict[str, float]] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def progress(self, task: str, done: int, total: int) -> None:
        pass

    def step(self, taken: Step) -> None:
        self.losses.append(sum(taken.losses.values()))

    def validated(self, *, metrics: Mapping[str, float], **rest: object) -> None:
        self.validations.append(dict(metrics))


CTRL_C_WORKS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""Begins a Python command: where the tests run in a shell's background, their children start deaf to Ctrl-C."""


def swath(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def write_recipe(path: Path, dataset: Path, **changes: object) -> Path:
    """A recipe of 6 steps on `dataset`; `changes` by section."""
    recipe: dict[str, dict[str, object]] = {
        "data": {"train": str(dataset), "val": None},
        "model": {"preset": "fcos_lite", "channels": 32, "head_convs": 1},
        "input": {"size_hw": [128, 160]},
        "train": {"epochs": 1, "batch_size": 2, "workers": 0, "accelerator": "cpu"},
    }
    for section, values in changes.items():
        recipe.setdefault(section, {}).update(values)  # type: ignore[call-overload]
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="session")
def version_0_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of version 0.1.0, its export, and the boxes that they gave; see tests/fixtures/README.md."""
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(Path(__file__).parents[1] / "fixtures" / "version_0_1.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def resealed(content: bytes) -> bytes:
    """A model file that was changed on purpose, with a digest that fits it: what must be found by its boxes."""
    from detection.runtime.model_file import NO_DIGEST, sealed

    return sealed(re.sub(rb'("file_sha256":")[0-9a-f]{64}', rb"\g<1>" + NO_DIGEST.encode(), content))


def write_coco(
    folder: Path, boxes_xywh: list[list[tuple[int, tuple[float, float, float, float]]]], names=("crop", "weed")
) -> Path:
    """A COCO dataset of plain grey images with the given boxes; gives the path of its JSON."""
    import cv2
    import numpy as np

    images, annotations = [], []
    (folder / "images").mkdir(exist_ok=True)
    for index, boxes in enumerate(boxes_xywh):
        name = f"images/{index}.png"
        cv2.imwrite(str(folder / name), np.full((100, 200, 3), 90, np.uint8))
        images.append({"id": 10 + index, "file_name": name, "width": 200, "height": 100})
        for category, box in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + index,
                    "category_id": category,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 3 + 4 * k, "name": name} for k, name in enumerate(names)]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


@pytest.fixture
def coco_file(tmp_path: Path):
    """`write_coco` in the test's own folder."""
    return functools.partial(write_coco, tmp_path)


@pytest.fixture(scope="session")
def lively():
    """Builds a detector with random weights whose answers differ from place to place and from class to class."""
    import torch

    from detection.models.build import build_model

    def make(preset: str, size_hw: tuple[int, int] = (96, 128), **changes: float):
        torch.manual_seed(3)
        model = build_model(preset, 3, **changes)
        if preset.startswith("fasterrcnn"):
            return livened_two_stage(model, size_hw)
        if preset.startswith("ssd"):  # fresh batch norms let nothing through so deep a net: show them images first
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            with torch.no_grad():
                features = model.backbone(torch.randn(8, 3, 96, 128))
                model.head(list(features.values()))
        for name, parameter in model.named_parameters():
            if "classification_head" in name and name.endswith("weight") and parameter.ndim == 4:
                parameter.data *= 4
            if "cls_logits.bias" in name:
                parameter.data.fill_(-2.0)
            if "regression_head" in name and name.endswith("weight") and parameter.ndim == 4:
                parameter.data *= 2
        return model.eval()

    return make


@pytest.fixture(scope="session")
def lively_exported(lively, tmp_path_factory: pytest.TempPathFactory):
    """Exports the `lively` detector of a preset, 96 x 128, once: the model file, its report beside it. Read-only."""

    def make(preset: str) -> Path:
        def into(folder: Path) -> None:
            from data import load_dataset
            from detection.export.export import export

            images = load_dataset(write_coco(folder, [[(3, (10, 10, 60, 40))], []]))
            export(trained_of(preset, lively(preset)), folder / "m.onnx", images=images, held_out=False)

        return once(tmp_path_factory, f"lively_{preset}", into) / "m.onnx"

    return make


def trained_of(preset: str, model, size_hw: tuple[int, int] = (96, 128), **options: object):
    """The model as if it had been trained on three classes."""
    from detection.models.checkpoint import Trained
    from detection.models.detector_config import DetectorConfig

    config = DetectorConfig(preset=preset, options=options, size_hw=size_hw)
    return Trained(model, config, ("crop", "weed", "stone"), "sha256:0", "none", {}, Path("none"))


def livened_two_stage(model, size_hw: tuple[int, int]):
    """Faster R-CNN whose both stages say something else at each place, and not the same for every class.

    Random layers one after the other let nothing through or amplify the last bit of a sum: batch norms are shown
    images, residuals made small, and the four layers that answer are scaled to answers of a known spread.
    """
    import torch

    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            parameter.data *= 0.2
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    images = torch.rand(4, 3, *size_hw)
    images[1] = 0
    images[2, :, 20:60, 30:90] = torch.tensor([0.1, 0.6, 0.2]).view(3, 1, 1)
    images[3, :, 50:] /= 4
    predictor, rpn = model.roi_heads.box_predictor, model.rpn
    deep = isinstance(model.roi_heads.box_head, torch.nn.Sequential)
    if deep:  # four convolutions for each proposal: fewer of them
        rpn._post_nms_top_n["testing"] = 60
    spreads = {
        rpn.head.cls_logits: 1.0,
        rpn.head.bbox_pred: 0.3,
        predictor.cls_score: 1.0,
        predictor.bbox_pred: 0.5,
    }
    with torch.no_grad():
        model.backbone(model.transform(list(images))[0].tensors)
        if deep:
            model.roi_heads.box_head(torch.randn(64, 256, 7, 7))
        model.eval()
        for layer, spread in spreads.items():
            seen: list[torch.Tensor] = []
            hook = layer.register_forward_hook(
                lambda _, __, out, seen=seen: seen.append(out.transpose(0, 1).flatten(1))
            )
            model(list(images))
            hook.remove()
            answers = torch.cat(seen, dim=1)
            gain = spread / answers.std(dim=1)
            layer.weight *= gain.view(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias.copy_((layer.bias - answers.mean(dim=1)) * gain)
    return model
