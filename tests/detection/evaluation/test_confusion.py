import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.confusion import confusion_matrix, pairs
from detection.evaluation.matching import match_detections
from detection.runtime.detections import Detections

CROP, WEED, NOTHING = 0, 1, 2


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


def matrix_of(field, found, thresholds):
    return confusion_matrix(pairs(field, found, thresholds), 2)


def test_the_matrix_worked_on_paper():
    field = dataset(
        image(1, (0, 0, 40, 40, CROP, 0), (60, 0, 40, 40, CROP, 0), (120, 0, 40, 40, WEED, 0)),
        image(2, (0, 0, 40, 40, WEED, 0), (100, 0, 90, 90, CROP, 1)),
    )
    found = [
        seen(
            (0, 0, 40, 40, CROP, 0.9),  # a crop
            (60, 0, 40, 38, WEED, 0.8),  # a crop detected as a weed
            (60, 0, 40, 40, WEED, 0.7),  # the same once more: the crop is matched already
            (120, 0, 40, 40, WEED, 0.3),  # below the weed's threshold: missed
        ),
        seen((150, 50, 40, 40, CROP, 0.9), (60, 60, 20, 20, CROP, 0.9)),  # in the crowd; on bare ground
    ]
    matrix = matrix_of(field, found, np.array([0.5, 0.4], np.float32))
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 2], [1, 1, 0]]
    lower = matrix_of(field, found, 0.0)
    assert lower[WEED].tolist() == [0, 1, 1]


def test_a_true_positive_goes_before_a_better_overlap_of_another_class():
    # the weed detection lies better on the crop, but the crop's own detection, of a lower score, gets it
    field = dataset(image(1, (0, 0, 40, 40, CROP, 0)))
    found = [seen((0, 0, 40, 40, WEED, 0.9), (0, 0, 40, 30, CROP, 0.5))]
    assert matrix_of(field, found, 0.0).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(20))
def test_rows_count_the_boxes_and_columns_the_detections(seed):
    rng = np.random.default_rng(seed)

    def rows(count, last):
        return [(*rng.integers(0, 60, 2), *rng.integers(10, 40, 2), rng.integers(0, 2), last()) for _ in range(count)]

    field = dataset(*(image(n, *rows(5, lambda: 0)) for n in range(1, 5)))
    found = [seen(*rows(8, rng.random)) for _ in range(4)]
    matrix = matrix_of(field, found, 0.3)
    labels = np.concatenate([p.labels for p in field.images])
    kept = np.concatenate([f.labels[f.scores >= np.float32(0.3)] for f in found])
    assert matrix[:2].sum(axis=1).tolist() == np.bincount(labels, minlength=2).tolist()
    assert matrix[:, :2].sum(axis=0).tolist() == np.bincount(kept, minlength=2).tolist()
    assert matrix[NOTHING, NOTHING] == 0
    # as many true positives as everywhere else
    matched = [match_detections(p.boxes_xyxy, p.labels, f, 0.3) for p, f in zip(field.images, found, strict=True)]
    assert matrix[CROP, CROP] + matrix[WEED, WEED] == sum(int(one.true_positive.sum()) for one in matched)
    kinds = [pair.kind for pair in pairs(field, found, 0.3)]
    assert kinds.count("confusion") == matrix[CROP, WEED] + matrix[WEED, CROP]
    assert (kinds.count("false_positive"), kinds.count("false_negative")) == (
        matrix[NOTHING].sum(),
        matrix[:, NOTHING].sum(),
    )
