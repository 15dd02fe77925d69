import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.budgets import ap_faults, has_learned
from detection.runtime.parity.expected import Expected


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


A = (10, 10, 50, 50, 0.9, 0)
B = (100, 10, 150, 60, 0.5, 1)


def compare(reference: Detections, answer: Detections) -> BoxParity:
    parity = BoxParity()
    parity.add(Expected(reference, np.zeros(len(reference), bool)), answer)
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


EDGE = (10, 10, 50, 34, 0.7, 0)
OTHER = (12, 10, 52, 34, 0.7, 0)


def test_what_is_borderline_may_go_and_its_alternates_may_come_and_both_are_counted() -> None:
    expected = Expected(detections(A, EDGE), np.array([False, True]), detections(OTHER))
    for answer, borderline in ((detections(A, EDGE), 0), (detections(A), 1), (detections(A, OTHER), 2)):
        parity = BoxParity()
        parity.add(expected, answer)
        assert (parity.borderline, parity.different) == (borderline, 0) and parity.passed
    for answer in (detections(EDGE), detections(A, OTHER, OTHER), detections(A, B)):
        parity = BoxParity()
        parity.add(expected, answer)
        assert parity.different == 1 and not parity.passed


def test_what_is_borderline_above_the_score_thresholds_is_bounded() -> None:
    expected = Expected(detections(A, EDGE), np.array([False, True]), detections(OTHER))
    parity = BoxParity(score_thresholds=(0.65, 0.65))
    for images in range(1, 4):
        parity.add(expected, detections(A, OTHER))
        parity.add(expected, detections(A, OTHER), bounded=False)
        assert (parity.above, parity.borderline_above) == (2 * images, 2 * images)
        assert parity.passed == (images < 3)  # two pairs may always change places
    assert parity.same and parity.fault().startswith("6 boxes at or above the score thresholds, of 6, differ")
    parity.learned = False
    assert parity.passed and parity.too_borderline
    low = BoxParity(score_thresholds=(0.8, 0.8))
    for _ in range(9):
        low.add(expected, detections(A, OTHER))
    assert low.borderline == 18 and low.borderline_above == 0 and low.passed


def test_an_early_reference_does_not_know_what_is_borderline() -> None:
    many = [(20 * i, 100, 20 * i + 10, 110, 0.5, 1) for i in range(99)]
    parity = BoxParity()
    parity.add(Expected(detections(A, *many)), detections(*many))
    assert parity.unfollowed == 1 and parity.passed and parity.to_dict()["borderline_boxes"] == 1
    parity.add(Expected(detections(A, B)), detections())
    assert parity.unmatched == 3 and not parity.passed and parity.to_dict()["borderline_boxes"] == 0


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


def test_a_box_far_from_all_leaves_the_next_ones_their_own_and_the_nearest_is_taken() -> None:
    near, nearer = (10.04, 10, 50, 50, 0.9, 0), (10.02, 10, 50, 50, 0.9, 0)
    parity = compare(detections((300, 10, 350, 60, 0.5, 1), A), detections(near, nearer))
    assert parity.max_box_error_px == pytest.approx(0.02, abs=1e-5)
    assert (parity.different, parity.unmatched, parity.borderline) == (2, 2, 0)


def test_what_the_parity_report_holds() -> None:
    parity = compare(detections(A, B), detections((10.03, 10, 50, 50, 0.9004, 0), B, B))
    parity.malformed = 2
    assert parity.to_dict() == {
        "images": 1,
        "boxes": 2,
        "max_box_error_px": pytest.approx(0.03, abs=1e-6),
        "max_score_error": pytest.approx(4e-4, abs=1e-7),
        "borderline_boxes": 0,
        "boxes_above_thresholds": 0,
        "borderline_above_thresholds": 0,
        "unmatched_boxes": 1,
        "malformed_outputs": 2,
    }
    assert parity.fault() == "1 of 2 boxes differ from PyTorch's, 2 malformed outputs"
    assert parity.summary() == "corners within 0.0300 px, scores within 4.0e-04"


@pytest.mark.parametrize(("ap", "learned"), [(0.01, True), (0.0099, False), (-1.0, False)])
def test_an_ap_of_a_hundredth_is_something_learned(ap: float, learned: bool) -> None:
    assert has_learned(ap) is learned


def test_each_precision_has_its_budget() -> None:
    for precision, budget in (("fp32", 0.1), ("fp16", 0.2), ("int8", 0.5)):
        assert ap_faults(precision, budget, None) == []
        assert ap_faults(precision, budget + 0.01, None) == [f"AP is off by {budget + 0.01:.2f} points"]
    assert len(ap_faults("int8", 9.0, 9.0)) == 2
