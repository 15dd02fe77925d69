import numpy as np
import pytest

from detection.evaluation.matching import match_detections
from detection.runtime.detections import Detections


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    return Detections(boxes(*(r[0] for r in rows)), [r[1] for r in rows], np.array([r[2] for r in rows], np.int64))


def test_each_box_is_found_once_by_the_surest_detection() -> None:
    truth = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    matched = match_detections(
        truth,
        np.array([0, 0]),
        found(((0, 0, 10, 9), 0.5, 0), ((0, 0, 10, 10), 0.9, 0), ((20, 0, 30, 10), 0.8, 1)),
    )
    # sorted by score: the exact one counts, the one of another class and the duplicate do not
    assert matched.kept.scores.tolist() == pytest.approx([0.9, 0.8, 0.5])
    assert matched.true_positive.tolist() == [True, False, False]
    assert matched.found.tolist() == [True, False]
    assert matched.errors == 3


def test_thresholds_count_per_class_and_at_the_threshold_a_detection_stays() -> None:
    seen = found(((0, 0, 9, 9), 0.4, 0), ((0, 0, 9, 9), 0.4, 1))
    assert match_detections(boxes(), np.zeros(0, int), seen, np.array([0.4, 0.41])).kept.labels.tolist() == [0]
    assert len(match_detections(boxes(), np.zeros(0, int), seen).kept) == 2


def test_nothing_to_find_and_nothing_found() -> None:
    matched = match_detections(boxes(), np.zeros(0, int), Detections.empty())
    assert (len(matched.kept), matched.errors) == (0, 0)
    missed = match_detections(boxes((0, 0, 5, 5)), np.array([1]), Detections.empty())
    assert missed.found.tolist() == [False]


def test_half_of_the_union_is_enough_and_a_second_detection_takes_what_is_left() -> None:
    half = match_detections(boxes((0, 0, 10, 10)), np.array([0]), found(((0, 0, 10, 5), 0.0, 0)))
    assert half.true_positive.tolist() == half.found.tolist() == [True]
    less = match_detections(boxes((0, 0, 10, 10)), np.array([0]), found(((0, 0, 10, 4.9), 0.9, 0)))
    assert (less.true_positive.tolist(), less.found.tolist(), less.errors) == ([False], [False], 2)
    seen = found(((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 10), 0.8, 0), ((0, 0, 10, 10), 0.8, 0))
    two = match_detections(boxes((0, 0, 10, 9), (0, 0, 10, 10)), np.array([0, 0]), seen)
    assert two.true_positive.tolist() == [True, True, False] and two.found.all()
