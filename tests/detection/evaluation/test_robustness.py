import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rich.console import Console

from data import load_dataset
from data.augmentation.settings import AugmentSettings
from detection.cli.terminal import robustness_table
from detection.evaluation.robustness import EFFECTS, STRENGTHS, Robustness, robustness
from detection.runtime.detections import Detections
from tests.detection.conftest import swath


class Green:
    """Finds what is green, as one box; sees nothing where it is dark or grey."""

    class_names = ("other", "weed")

    def __call__(self, image_bgr: np.ndarray, /) -> Detections:
        blue, green, red = (image_bgr[..., k].astype(int) for k in range(3))
        ys, xs = np.nonzero(2 * green - red - blue > 60)
        if not len(ys):
            return Detections.empty()
        box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([1]))


@pytest.fixture
def squares(coco_file):
    """Three fields of one green square each; AP is 1 as they are."""
    path = coco_file([[(7, (40 + 20 * n, 30, 40, 40))] for n in range(3)])
    images = load_dataset(path)
    for n, image in enumerate(images.images):
        pixels = np.full((100, 200, 3), 90, np.uint8)
        pixels[30:70, 40 + 20 * n : 80 + 20 * n] = (40, 190, 50)
        cv2.imwrite(str(image.path), pixels)
    return load_dataset(path)


def test_every_effect_is_tried_at_every_strength_and_boxes_move_along(squares):
    steps = []
    found = robustness(Green(), squares, size_hw=(100, 200), progress=lambda done, total: steps.append((done, total)))
    assert found.clean == {"AP": 1, "AP50": 1}
    assert list(found.effects) == list(EFFECTS) and len(EFFECTS) >= 19
    assert steps[-1] == (3 * 58, 3 * 58) and len(steps) == 3 * 58
    for effect in ("camera_height", "camera_pitch", "rolling_shutter"):  # the square moves; its box with it
        assert found.effects[effect][1.0]["AP50"] == 1, effect
    assert found.effects["noise"][0.2]["AP50"] >= found.effects["noise"][1.0]["AP50"]
    assert found.drop(*found.worst) > 0.1  # a few of them blur or recolour its edge
    assert -1e-9 <= found.mean_drop < 1
    assert found.drop(*found.worst) == max(found.drop(e, s) for e in EFFECTS for s in STRENGTHS)
    again = robustness(Green(), squares, size_hw=(100, 200))
    assert again.to_dict() == found.to_dict()


def test_an_oblique_camera_and_a_dataset_without_boxes(squares):
    oblique = robustness(Green(), squares, size_hw=(100, 200), camera=AugmentSettings(view="oblique"))
    assert oblique.clean["AP"] == 1
    bare = replace(squares, images=tuple(
        replace(p, boxes_xyxy=p.boxes_xyxy[:0], labels=p.labels[:0], areas_px=p.areas_px[:0], iscrowd=p.iscrowd[:0],
                truncated=p.truncated[:0]) for p in squares.images))  # fmt: skip
    none = robustness(Green(), bare, size_hw=(100, 200))
    assert none.clean["AP"] == -1 and none.mean_drop is None and none.worst is None
    assert none.to_dict()["mean_relative_drop"] is None and none.to_dict()["worst"] is None


def test_drops_worked_on_paper():
    ap = {"haze": (0.4, 0.2, 0.0), "rain": (0.4, 0.5, 0.3)}
    found = Robustness(
        {"AP": 0.4, "AP50": 0.8},
        {e: {s: {"AP": v, "AP50": 0.0} for s, v in zip(STRENGTHS, row, strict=True)} for e, row in ap.items()},
    )
    assert found.drop("haze", 0.6) == pytest.approx(0.5) and found.drop("rain", 0.6) == pytest.approx(-0.25)
    assert found.worst == ("haze", 1.0) and found.mean_drop == pytest.approx((0.5 + 1 - 0.25 + 0.25) / 6)
    assert found.to_dict()["worst"] == {"effect": "haze", "strength": 1.0, "relative_drop": 1.0}


def test_an_effect_that_leaves_no_box_is_undefined_and_not_averaged():
    ap = {"haze": (0.4, 0.2, -1.0), "rain": (-1.0, -1.0, 0.3)}
    found = Robustness(
        {"AP": 0.4, "AP50": 0.8},
        {e: {s: {"AP": v, "AP50": v} for s, v in zip(STRENGTHS, row, strict=True)} for e, row in ap.items()},
    )
    assert found.drop("haze", 1.0) is None and found.worst == ("haze", 0.6)
    assert found.mean_drop == pytest.approx((0 + 0.5 + 0.25) / 3)
    table = io.StringIO()
    Console(file=table, width=120).print(robustness_table(found))
    assert "25% of the AP is lost on average" in table.getvalue() and "-1.000" not in table.getvalue()


def test_the_command(run, rendered, tmp_path, capsys):
    few = load_dataset(rendered).subset([0, 1])
    from data.formats.coco import save_coco

    save_coco(few, tmp_path / "few.json")
    code, said, _ = swath(capsys, "evaluate", run, tmp_path / "few.json", "--robustness", "--out", tmp_path / "out")
    assert code == 0 and "lens_dust" in said and "of the AP is lost on average" in said
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["robustness"]
    assert set(found["effects"]) == set(EFFECTS) and found["strengths"] == list(STRENGTHS)
    assert "Robustness to light, weather and dirt" in (tmp_path / "out" / "report.html").read_text()
