"""Intersections of boxes, by hand and against pycocotools."""

import numpy as np
import pytest

from detection.runtime.boxes import area, covered_share, intersection, iou

SQUARE = np.float32([0, 0, 10, 10])


def test_by_hand() -> None:
    others = np.float32([[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10], [30, 30, 40, 40], [2, 2, 4, 7]])
    assert area(others).tolist() == [100, 100, 100, 100, 10]
    assert intersection(SQUARE, others).tolist() == [100, 25, 0, 0, 10]
    # the second: 5 x 5 in common, 100 + 100 - 25 in all; the third only touches
    np.testing.assert_allclose(iou(SQUARE, others), [1, 25 / 175, 0, 0, 0.1])
    np.testing.assert_allclose(covered_share(SQUARE, others), [1, 0.25, 0, 0, 0.1])
    np.testing.assert_allclose(covered_share(others, SQUARE), [1, 0.25, 0, 0, 1])


def test_every_one_with_every_other() -> None:
    a, b = np.float32([[0, 0, 2, 2], [1, 0, 3, 2], [8, 8, 9, 9]]), np.float32([[0, 0, 2, 2], [2, 0, 4, 2]])
    np.testing.assert_allclose(iou(a[:, None], b), [[1, 0], [1 / 3, 1 / 3], [0, 0]])
    assert iou(a[:, None], b).dtype == np.float64


def test_one_against_many() -> None:
    # 10 x 10 against: itself; shifted by half (50 / 150); touching only; inside (25 / 100); without area
    many = np.array([(0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10), (0, 0, 5, 5), (3, 3, 3, 3)], np.float32)
    assert iou(many[0], many) == pytest.approx([1, 1 / 3, 0, 0.25, 0])
    assert iou(many[0], many[:0]).shape == (0,)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (2, 0)])
def test_none(n: int, m: int) -> None:
    a, b = np.zeros((n, 1, 4), np.float32), np.zeros((m, 4), np.float32)
    assert iou(a, b).shape == covered_share(a, b).shape == (n, m)


def test_a_box_without_area_overlaps_nothing() -> None:
    line, point = np.float32([0, 0, 10, 0]), np.float32([5, 5, 5, 5])
    assert iou(line, SQUARE) == iou(point, SQUARE) == iou(point, point) == 0
    assert covered_share(point, SQUARE) == covered_share(SQUARE, point) == 0


def test_the_same_as_pycocotools_to_the_last_bit() -> None:
    from pycocotools import mask

    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 2000, (300, 2, 2)).astype(np.float32)
    corners[150:] = corners[:150] + rng.normal(0, 20, (150, 2, 2)).astype(np.float32)  # half of them overlap well
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    xywh = boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    for ours, crowd in ((iou, 0), (covered_share, 1)):
        theirs = mask.iou(xywh, xywh, [crowd] * len(xywh))
        assert (theirs > 0.5).sum() > 400
        assert np.array_equal(ours(boxes[:, None], boxes), theirs)
