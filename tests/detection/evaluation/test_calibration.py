import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.calibration import calibration
from detection.evaluation.coco_metrics import coco_metrics, coco_results
from detection.runtime.detections import Detections

CROP, WEED = 0, 1


def image(number, *rows):
    """Rows x, y, width, height, label, crowd."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    areas = table[:, 2] * table[:, 3]
    return LabelledImage(
        number, f"/{number}.png", (100, 200), xyxy, table[:, 4].astype(int), areas, table[:, 5] > 0, {}
    )


def dataset(*images):
    return Dataset("made", ("crop", "weed"), (1, 2), tuple(images))


def seen(*rows):
    """Rows x, y, width, height, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(boxes, table[:, 5], table[:, 4].astype(np.int64))


def test_calibration_worked_on_paper():
    field = dataset(image(1, (0, 0, 40, 40, CROP, 0), (60, 0, 40, 40, CROP, 0), (100, 50, 90, 50, CROP, 1)))
    rows = [(0, 0, 40, 40, CROP, 0.75), (60, 0, 40, 40, CROP, 0.875), (0, 60, 9, 9, CROP, 0.75)]
    rows += [(60, 60, 9, 9, WEED, 1.0), (120, 60, 20, 20, CROP, 0.25)]  # in a crowd region: ignored
    matches = coco_metrics(field, coco_results(field, [seen(*rows)])).matches
    crop = calibration(matches, CROP)
    assert crop.count.tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 1, 0]
    assert crop.precision[[7, 8]].tolist() == [0.5, 1] and crop.score[[7, 8]].tolist() == [0.75, 0.875]
    assert crop.error == pytest.approx((2 * 0.25 + 0.125) / 3)
    both = calibration(matches)
    assert both.count[9] == 1 and both.error == pytest.approx((2 * 0.25 + 0.125 + 1) / 4)
    nothing = coco_metrics(field, coco_results(field, [seen()])).matches
    assert calibration(nothing).error is None
