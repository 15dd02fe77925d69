import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.budgets import ap_faults

CUTS = {"pre_nms_score_threshold": 0.05, "nms_iou": 0.6, "max_detections": 4}


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A = (10, 10, 50, 50, 0.9, 0)
B = (100, 10, 150, 60, 0.5, 1)


def compare(reference: Detections, answer: Detections) -> BoxParity:
    parity = BoxParity()
    parity.add(reference, answer, **CUTS)
    return parity


def test_the_same_boxes_in_another_order_agree() -> None:
    parity = compare(detections(A, B), detections(B, A))
    assert parity.passed
    assert (parity.boxes, parity.max_box_error_px, parity.max_score_error) == (2, 0, 0)


def test_the_largest_errors_are_measured() -> None:
    moved = (10.03, 10, 50, 49.98, 0.9004, 0)
    parity = compare(detections(A, B), detections(moved, B))
    assert parity.passed
    assert parity.max_box_error_px == pytest.approx(0.03, abs=1e-5)
    assert parity.max_score_error == pytest.approx(4e-4, abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        (11, 10, 50, 50, 0.9, 0),  # a pixel off
        (10, 10, 50, 50, 0.8, 0),  # another score
        (10, 10, 50, 50, 0.9, 1),  # another label
    ],
)
def test_a_wrong_box_counts_on_both_sides(wrong) -> None:
    parity = compare(detections(A, B), detections(wrong, B))
    assert parity.unmatched == 2
    assert not parity.passed


def test_a_missing_and_an_invented_box_are_unmatched() -> None:
    assert compare(detections(A, B), detections(A)).unmatched == 1
    assert compare(detections(A), detections(A, B)).unmatched == 1
    assert compare(detections(), detections()).passed


def test_a_duplicate_does_not_match_twice() -> None:
    assert compare(detections(A), detections(A, A)).unmatched == 1


def test_at_the_score_threshold_the_last_bit_decides() -> None:
    parity = compare(detections(A, (0, 0, 9, 9, 0.0502, 0)), detections(A))
    assert parity.passed
    assert parity.borderline == 1


def test_at_the_number_of_detections_the_last_bit_decides() -> None:
    full = [A, B, (0, 80, 9, 89, 0.4, 0)]
    parity = compare(detections(*full, (60, 80, 69, 89, 0.2, 0)), detections(*full, (80, 80, 89, 89, 0.2, 1)))
    assert parity.passed
    assert parity.borderline == 2


def test_at_the_nms_threshold_the_last_bit_decides() -> None:
    # 40 x 40 and 40 x 24 of it: IoU 960 / 1600 = 0.6, exactly the threshold
    edge = (10, 10, 50, 34, 0.7, 0)
    parity = compare(detections(A, edge), detections(A))
    assert parity.passed
    assert parity.borderline == 1
    # what the excused box would have suppressed is excused with it; something elsewhere is not
    under_edge = (10, 10, 50, 32, 0.6, 0)
    assert compare(detections(A, edge), detections(A, under_edge)).borderline == 2
    assert compare(detections(A, edge), detections(A, (150, 10, 190, 32, 0.6, 0))).unmatched == 1


def test_of_two_that_suppress_each_other_and_are_as_sure_either_may_survive() -> None:
    parity = BoxParity()
    many = [(20 * i, 100, 20 * i + 10, 110, 0.5, 1) for i in range(99)]
    left, right = (100, 10, 200, 60, 0.30000001, 0), (120, 10, 220, 60, 0.3, 0)
    for answer in (left, right, left):
        # two of 300 boxes: each side has one that the other lacks
        parity.add(detections(left, *many), detections(answer, *many), **{**CUTS, "max_detections": 200})
    assert (parity.tied, parity.unmatched) == (2, 0) and parity.passed


def test_boxes_that_all_lie_elsewhere_are_no_ties() -> None:
    parity = compare(detections(A, B), detections((12, 10, 52, 50, 0.9, 0), (103, 10, 153, 60, 0.5, 1)))
    assert (parity.tied, parity.unmatched) == (4, 4)
    assert not parity.passed and parity.fault().startswith("4 of 2 boxes differ")
    apart = compare(detections(A, B), detections((12, 10, 52, 50, 0.9001, 0), B))
    assert (apart.tied, apart.unmatched) == (0, 2)


@pytest.mark.parametrize(
    ("delta", "chance", "said"),
    [
        (0.5, 0.0, []),
        (0.51, 0.0, ["AP is off by 0.51 points"]),
        (0.72, 0.3, []),  # 0.42 of it is no chance
        (0.9, 0.3, ["AP is off by 0.90 points, of which 0.30 may be chance"]),
        (1.5, 1.5, []),
        (1.6, 1.6, ["AP is off by 1.60 points, of which 1.60 may be chance"]),  # too much to be excused
        (None, 0.0, []),
    ],
)
def test_a_budget_of_ap_is_what_no_chance_explains(delta: float | None, chance: float, said: list[str]) -> None:
    assert ap_faults("int8", delta, None, chance) == said


def test_small_objects_have_a_budget_of_their_own() -> None:
    assert ap_faults("int8", 0.0, 1.0) == [] == ap_faults("fp16", 0.0, 1.2)
    assert ap_faults("int8", 0.0, 1.2) == ["AP of small objects is 1.20 points lower"]
