"""The examples of the pages about adding a thing are complete: they run, and describe one new thing each."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

PAGES = Path(__file__).parents[2] / "docs/extend"


def example(page: str) -> dict[str, Any]:
    """The names that a page's example defines."""
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.splitlines()) <= 60
    module = types.ModuleType(f"example_of_{page.removesuffix('.md')}")
    sys.modules[module.__name__] = module  # where pydantic looks up annotations
    exec(compile(code, page, "exec"), vars(module))
    return vars(module)


def test_the_effect_is_applied_by_a_recipe_and_leaves_boxes_alone() -> None:
    from data.augmentation.effect import Draw
    from data.augmentation.effects import KINDS
    from data.augmentation.sample import Sample

    effect = example("effect.md")["DROPS"]
    assert effect.name not in {kind.name for kind in KINDS}
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    sample = Sample(image.copy(), np.array([[10.0, 10, 30, 30]]), np.array([0]))
    draw = Draw(np.random.default_rng(1), 1.0, effect.settings(), True, 0.3, 1.0, 1, (0.2, 0.8))
    changed = effect.apply(sample, draw)
    assert (sample.image_bgr == image).all() and changed.image_bgr.dtype == np.uint8
    assert (changed.image_bgr != image).any() and (changed.boxes_xyxy == sample.boxes_xyxy).all()


def test_the_preset_builds_a_detector_that_gives_boxes() -> None:
    import torch

    from detection.models.presets import KINDS

    (preset,) = example("preset.md")["KINDS"]
    assert preset.name not in {kind.name for kind in KINDS}
    detector = preset.build(3, preset.options()).eval()
    with torch.no_grad():
        (found,) = detector([torch.zeros(3, 64, 64)])
    assert found["boxes"].shape[1] == 4
    assert dict(detector.backbone.body.named_children()).get(preset.stem) is not None


def test_the_format_is_read(tmp_path: Path) -> None:
    import cv2

    from data.formats.format import ReadOptions
    from data.formats.kinds import KINDS

    kind = example("format.md")["KIND"]
    assert kind.name not in {other.name for other in KINDS}
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "labels.ndjson").write_text('{"image": "a.png", "boxes": [[5, 5, 60, 20, "weed"]]}\n')
    (found,) = kind.finds(tmp_path, "train")
    dataset = kind.reads(found, ReadOptions())
    assert dataset.class_names == ("weed",) and len(dataset.notices) == 1
    assert dataset.images[0].boxes_xyxy.tolist() == [[5, 5, 50, 20]]  # clipped to the image


def test_the_camera_gives_its_images(tmp_path: Path) -> None:
    from detection.runtime.cameras import KINDS

    kind = example("camera.md")["KIND"]
    assert kind.name not in {other.name for other in KINDS}
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 9, 3), dtype=np.uint8)
    np.save(tmp_path / "drive.npy", images)
    source = f"numpy:{tmp_path / 'drive.npy'}"
    assert kind.matches(source) and not kind.matches("drive.npy")
    with kind.opens(kind.settings(source=source, every=2), "drive", None) as camera:
        frames = list(camera)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert all((frame.image == images[2 * n]).all() for n, frame in enumerate(frames))


def test_the_output_counts_boxes(tmp_path: Path) -> None:
    import json

    from detection.runtime.detections import Detections, Frame
    from detection.runtime.outputs import KINDS
    from detection.runtime.outputs.contract import make_record

    kind = example("output.md")["KIND"]
    assert kind.key not in {other.key for other in KINDS}
    (output,) = kind.opens(kind.settings(path=tmp_path / "tally.json"), None)
    frame = Frame(np.zeros((8, 8, 3), np.uint8), "left", 0, 1)
    found = Detections(np.array([[0, 0, 4, 4], [1, 1, 5, 5]], np.float32), np.array([0.9, 0.8]), np.array([0, 0]))
    with output:
        output.write(frame, found, make_record(frame, found, ("weed",), latency_ms={}, age_ms=1.0))
    assert json.loads((tmp_path / "tally.json").read_text()) == {"weed": 2}
