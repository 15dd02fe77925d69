"""What is sure must be so under any rounding within the margin, and what comes of it must have been possible."""

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from detection.export.parity.outcome import Candidates, Margin, outcome, within_top

MARGIN = Margin(1e-3, 0.05)


def kept(boxes, scores, groups, iou, most):
    alive = batched_nms(*(torch.from_numpy(one) for one in (boxes, scores, groups)), iou).numpy()[:most]
    return np.isin(np.arange(len(scores)), alive)


@pytest.mark.parametrize(("count", "most"), [(40, 100), (150, 20), (1, 5)])
def test_no_rounding_within_the_margin_surprises(count: int, most: int) -> None:
    random = np.random.default_rng(count)
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(8, 30, (count, 2))], axis=1).astype(np.float32)
    scores = random.uniform(0.1, 0.3, count).astype(np.float32)  # some are nearly equal
    groups = random.integers(0, 2, count)
    sure, possible = outcome(
        Candidates(boxes, scores, groups, np.ones(count, bool)), iou=0.5, most=most, margin=MARGIN
    )
    assert (possible | ~sure).all() and sure.any()
    for _ in range(60):
        moved = boxes + random.uniform(-0.05, 0.05, boxes.shape).astype(np.float32)
        other = scores + random.uniform(-1e-3, 1e-3, count).astype(np.float32)
        now = kept(moved, other, groups, 0.5, most)
        assert (now | ~sure).all() and (possible | ~now).all()


def row(*xs_scores: tuple[float, float]) -> Candidates:
    """Boxes 10 wide, at x, in one row; those 2 apart have an IoU of 2/3."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _ in xs_scores], np.float32)
    scores = np.array([score for _, score in xs_scores], np.float32)
    return Candidates(boxes, scores, np.zeros(len(scores), np.int64), np.ones(len(scores), bool))


def test_the_chain_of_two_that_change_places_is_followed_and_ends() -> None:
    # the first two may change places; then the third lives, and the fourth, which it would drop, does not
    chained = row((0, 0.07460491), (2, 0.07460487), (-2, 0.0745), (-4, 0.0744), (50, 0.0746))
    sure, possible = outcome(chained, iou=0.5, most=100, margin=Margin(1e-6, 1e-4))
    assert sure.tolist() == [False, False, False, False, True]
    assert possible.all()
    apart = row((0, 0.08), (2, 0.07), (-2, 0.06), (-4, 0.05), (50, 0.0746))
    sure, possible = outcome(apart, iou=0.5, most=100, margin=Margin(1e-6, 1e-4))
    assert sure.tolist() == possible.tolist() == [True, False, False, True, True]


def test_the_end_of_a_list_is_borderline_where_scores_are_close() -> None:
    scores = np.array([0.9, 0.5, 0.4999, 0.1], np.float32)
    for margin, sure, possible in ((1e-3, [1, 0, 0, 0], [1, 1, 1, 0]), (1e-6, [1, 1, 0, 0], [1, 1, 0, 0])):
        found = within_top(scores, 2, Margin(margin, 0))
        assert [mask.tolist() for mask in found] == [list(map(bool, sure)), list(map(bool, possible))]
    none = np.zeros(0, np.float32)
    assert [len(mask) for mask in within_top(none, 2, MARGIN)] == [0, 0]
    nothing = Candidates(np.zeros((0, 4), np.float32), none, np.zeros(0, np.int64), np.zeros(0, bool))
    assert [len(mask) for mask in outcome(nothing, iou=0.5, most=5, margin=MARGIN)] == [0, 0]
