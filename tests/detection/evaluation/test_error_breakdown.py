import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.coco_metrics import coco_metrics, coco_results
from detection.evaluation.error_breakdown import KINDS, error_breakdown
from detection.runtime.detections import Detections

CROP, WEED = 0, 1


def image(number, boxes, crowd=()):
    """Boxes x, y, width, height, label."""
    table = np.array(boxes, np.float32).reshape(-1, 5)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    is_crowd = np.zeros(len(table), bool)
    is_crowd[list(crowd)] = True
    labels = table[:, 4].astype(np.int64)
    return LabelledImage(number, f"/{number}.png", (100, 200), xyxy, labels, table[:, 2] * table[:, 3], is_crowd, {})


def dataset(*images):
    return Dataset("made", ("crop", "weed"), (3, 7), tuple(images))


def seen(*rows):
    """Rows x, y, width, height, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(boxes, table[:, 5], table[:, 4].astype(np.int64))


def errors(breakdown):
    return {name: error.count for name, error in breakdown.kinds.items() if error.count}


@pytest.mark.parametrize(
    ("row", "kind", "gain"),
    [
        # two crops, one of them found at score 0.5: AP50 is 51/101, or less where a mistake comes before
        ((100, 10, 40, 40, WEED, 0.9), "class", 50 / 101),  # crop would be whole
        ((125, 10, 40, 40, CROP, 0.9), "location", 1 - 51 / 2 / 101),  # IoU 0.23; right, all would be
        ((125, 10, 40, 40, WEED, 0.9), "both", 0.0),  # of a class that nothing is to be found of
        ((10, 10, 40, 38, CROP, 0.4), "duplicate", 0.0),  # after all true positives: costs nothing
        ((10, 10, 40, 38, CROP, 0.9), "duplicate", 0.0),  # is the true positive itself; the other is the duplicate
        ((60, 60, 30, 30, CROP, 0.9), "background", 51 / 2 / 101),
        ((60, 60, 30, 30, CROP, 0.4), "background", 0.0),
    ],
)
def test_each_kind_worked_on_paper(row, kind, gain):
    part = dataset(image(1, [(10, 10, 40, 40, CROP), (100, 10, 40, 40, CROP)]))
    breakdown = error_breakdown(part, [seen((10, 10, 40, 40, CROP, 0.5), row)])
    about = kind in ("class", "location")
    assert errors(breakdown) == ({kind: 1} if about else {kind: 1, "missed": 1})
    assert breakdown.kinds[kind].AP50 == pytest.approx(gain)
    if not about:  # one of two boxes has no detection; without it the other one's curve is whole
        assert breakdown.AP50 + breakdown.kinds["missed"].AP50 == pytest.approx(0.5 if gain else 1.0)


def test_nothing_found_and_nothing_to_find():
    breakdown = error_breakdown(dataset(image(1, [(10, 10, 40, 40, CROP)])), [Detections.empty()])
    assert (breakdown.AP50, errors(breakdown), breakdown.kinds["missed"].AP50, breakdown.mean_iou) == (
        0.0,
        {"missed": 1},
        1.0,
        None,
    )
    empty = error_breakdown(dataset(image(1, [])), [seen((1, 1, 9, 9, CROP, 0.5))])
    assert empty.AP50 == -1 and errors(empty) == {"background": 1}
    assert error_breakdown(dataset(), []).AP50 == -1


def test_of_two_about_one_box_the_better_is_put_right():
    part = dataset(image(1, [(10, 10, 40, 40, CROP), (100, 10, 40, 40, WEED)]))
    found = [seen((10, 10, 40, 40, WEED, 0.9), (11, 10, 40, 40, WEED, 0.8), (100, 10, 40, 40, WEED, 0.7))]
    breakdown = error_breakdown(part, found)
    assert errors(breakdown) == {"class": 2} and breakdown.AP50 == pytest.approx(1 / 3 / 2)
    assert breakdown.kinds["class"].AP50 == pytest.approx(1 - breakdown.AP50)
    assert breakdown.mean_iou == 1


def test_crowds_swallow_detections():
    part = dataset(image(1, [(10, 10, 40, 40, CROP), (100, 0, 90, 90, CROP)], crowd=[1]))
    rows = [(10, 10, 40, 40, CROP, 0.5), (110, 10, 20, 20, CROP, 0.9), (150, 10, 20, 20, CROP, 0.8)]
    breakdown = error_breakdown(part, [seen(*rows)])
    assert breakdown.AP50 == 1 and not errors(breakdown)


numbers = st.integers(0, 8)
box = st.tuples(numbers, numbers, st.integers(1, 6), st.integers(1, 6), st.integers(0, 1))
scores = st.sampled_from([0.2, 0.5, 0.75])
images = st.lists(st.tuples(st.lists(box, max_size=6), st.lists(st.tuples(box, scores), max_size=10)), max_size=4)


@settings(max_examples=150, deadline=None)
@given(images, st.booleans())
def test_its_ap50_is_pycocotools_own_and_mending_never_costs(content, crowds):
    made = [image(9 - k, boxes, crowd=[0] if crowds and boxes else []) for k, (boxes, _) in enumerate(content)]
    part = dataset(*made)
    found = [seen(*((*b, s) for b, s in rows)) for _, rows in content]
    breakdown = error_breakdown(part, found)
    if part.images:
        assert breakdown.AP50 == pytest.approx(coco_metrics(part, coco_results(part, found)).coco["AP50"], abs=1e-12)
    assert set(breakdown.kinds) == set(KINDS)
    assert all(error.AP50 >= -1e-12 for error in breakdown.kinds.values())


def test_only_a_hundred_of_a_class_count():
    many = [(60, 60, 30, 30, CROP, 0.9)] * 100 + [(10, 10, 40, 40, CROP, 0.5), (10, 10, 40, 40, WEED, 0.4)]
    part = dataset(image(1, [(10, 10, 40, 40, CROP)]))
    found = [seen(*many)]
    breakdown = error_breakdown(part, found)
    assert breakdown.AP50 == 0 == coco_metrics(part, coco_results(part, found)).coco["AP50"]
    assert errors(breakdown) == {"class": 1, "background": 100}
