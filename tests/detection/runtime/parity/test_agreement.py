import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.parity.agreement import Agreement

THRESHOLDS = (0.5, 0.5)


def detections(*rows):
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A = (10, 10, 50, 50, 0.9, 0)
B = (100, 10, 150, 60, 0.6, 1)
WEAK = [(x, 80, x + 9, 89, 0.2, 0) for x in (0, 20, 40, 60, 80)]


def compared(reference, answer, precision="int8"):
    agreement = Agreement(precision, THRESHOLDS)
    agreement.add(reference, answer)
    return agreement


def test_the_same_agree_and_so_do_two_that_found_nothing():
    same = compared(detections(A, B), detections(B, A))
    assert (same.boxes, same.matched, same.passed, same.fault()) == (4, 4, True, "")
    nothing = compared(detections(), detections())
    assert (nothing.boxes, nothing.share, nothing.passed) == (0, 1.0, True)


def test_a_box_that_moved_a_little_is_the_same_in_int8_and_another_in_fp16():
    # 40 x 40 moved by 4: 1440 of 1760, IoU 0.818
    moved = (14, 10, 54, 50, 0.85, 0)
    assert compared(detections(A), detections(moved)).share == 1
    half = compared(detections(A), detections(moved), "fp16")
    assert half.share == 0 and half.to_dict()["overlapping"] == {"0.5": 1.0, "0.75": 1.0, "0.9": 0.0}


@pytest.mark.parametrize(
    "wrong",
    [
        (20, 10, 60, 50, 0.9, 0),  # IoU 0.6
        (10, 10, 50, 50, 0.79, 0),  # score 0.11 lower
        (10, 10, 50, 50, 0.9, 1),  # another class
    ],
)
def test_a_wrong_box_counts_on_both_sides(wrong):
    agreement = compared(detections(A, B), detections(wrong, B))
    assert (agreement.boxes, agreement.matched) == (4, 2)
    assert not agreement.passed and "50.0% of 4 boxes agree" in agreement.fault()


def test_a_duplicate_agrees_once():
    assert compared(detections(A), detections(A, A)).matched == 2


def test_what_is_sure_of_nothing_is_judged_by_its_best_three():
    lost = compared(detections(*WEAK), detections())
    assert (lost.boxes, lost.share, lost.passed) == (3, 0, False)
    # beyond these a weak box may go
    assert compared(detections(A, B, *WEAK), detections(A, B, WEAK[0])).passed


def test_a_box_just_below_the_threshold_is_still_there():
    below = (10, 10, 50, 50, 0.49, 0)
    above = (10, 10, 50, 50, 0.51, 0)
    many = [(x, 10, x + 9, 19, 0.9, 1) for x in (100, 120, 140)]  # so that it is not among the best three
    agreement = compared(detections(*many, above), detections(*many, below))
    assert (agreement.boxes, agreement.share) == (7, 1)


def test_malformed_answers_never_hold():
    agreement = compared(detections(A), detections(A))
    agreement.malformed = 1
    assert not agreement.passed and "1 malformed" in agreement.fault()


def test_each_box_takes_the_one_that_overlaps_it_most():
    # both fit A, by 38 / 42 and by 1; only the first fits the other, by 39 / 41
    agreement = compared(
        detections(A, (13, 10, 53, 50, 0.9, 0)), detections((12, 10, 52, 50, 0.9, 0), A), precision="fp16"
    )
    assert (agreement.boxes, agreement.matched, agreement.images) == (4, 4, 1)


def test_what_the_parity_report_holds():
    agreement = compared(detections(A, B), detections((20, 10, 60, 50, 0.9, 0), B))
    agreement.malformed = 1
    assert agreement.to_dict() == {
        "images": 1,
        "boxes": 4,
        "agreement": 0.5,
        "agreement_required": 0.9,
        "agreement_criterion": "same class, IoU >= 0.75, scores within 0.1",
        "overlapping": {"0.5": 1.0, "0.75": 0.5, "0.9": 0.5},
        "malformed_outputs": 1,
    }
    assert agreement.fault() == (
        "50.0% of 4 boxes agree with PyTorch's (IoU >= 0.75, scores within 0.1), at least 90% must; "
        "1 malformed outputs"
    )
    assert agreement.summary() == "50.0% of them agree: IoU >= 0.75, scores within 0.1"
    assert set(compared(detections(), detections()).to_dict()["overlapping"].values()) == {1.0}
