"""What non-maximum suppression may keep if scores and corners are off by a little: the chain of its decisions.

Suppression turns a difference in the last bit into another set of boxes: two boxes of nearly the same score change
places, the one that now comes second is dropped, what it had dropped lives, and so on. `outcome` follows that chain:
a box is sure to be kept, sure to be dropped, or borderline, whatever the rounding within a margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS = 128  # of the matrix of overlaps that are computed at once
_IOU_ROUNDING = 1e-6


@dataclass(frozen=True)
class Margin:
    """By how much two computations of the same detector may differ.

    Attributes:
        score: in a score.
        box_px: in a corner, pixels.

    """

    score: float
    box_px: float


@dataclass(frozen=True, eq=False)
class Candidates:
    """What enters suppression.

    Attributes:
        boxes_xyxy: float (M, 4), pixels.
        scores: float (M,).
        groups: int64 (M,); boxes of different groups do not suppress each other.
        sure: bool (M,), which of them are sure to be there: not at a threshold, not at the end of a top-k.

    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    groups: NDArray[np.int64]
    sure: NDArray[np.bool_]


def within_top(scores: NDArray[np.float32], most: int, margin: Margin) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of scores (M,) are sure to be among the best `most`, and which may be: bool (M,) each."""
    if len(scores) <= most:
        return np.ones(len(scores), bool), np.ones(len(scores), bool)
    falling = -np.sort(-scores.astype(np.float64))
    last, next_ = falling[most - 1], falling[most]
    return scores > next_ + 2 * margin.score, scores >= last - 2 * margin.score


def outcome(
    candidates: Candidates, *, iou: float, most: int, margin: Margin
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which candidates are sure to be returned, and which may be.

    Args:
        candidates: M of them.
        iou: a box that overlaps a better one of its group by more is dropped.
        most: of what is kept, the best so many are returned.
        margin: scores and corners of either side are off by this at most.

    Returns:
        bool (M,) each; what is sure is possible too.

    """
    count = len(candidates.scores)
    worse, better, surely = _threats(candidates, iou, margin)
    kept, dropped = np.zeros(count, bool), np.zeros(count, bool)
    while True:
        now_dropped = np.zeros(count, bool)
        now_dropped[worse[surely & kept[better]]] = True
        threatened = np.zeros(count, bool)
        threatened[worse[~(dropped | now_dropped)[better]]] = True
        now_dropped |= dropped
        now_kept = candidates.sure & ~threatened & ~now_dropped
        if (now_kept == kept).all() and (now_dropped == dropped).all():
            break
        kept, dropped = now_kept, now_dropped
    return _best(candidates.scores, kept, ~dropped, most, margin)


def _best(
    scores: NDArray[np.float32], kept: NDArray[np.bool_], possible: NDArray[np.bool_], most: int, margin: Margin
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    values = scores.astype(np.float64)
    rivals = np.sort(values[possible])
    # a possible one is its own rival once
    ahead = len(rivals) - np.searchsorted(rivals, values - 2 * margin.score, "left") - 1
    winners = np.sort(values[kept])
    surely_ahead = len(winners) - np.searchsorted(winners, values + 2 * margin.score, "right")
    return kept & (ahead < most), possible & (surely_ahead < most)


def _threats(
    candidates: Candidates, iou: float, margin: Margin
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs of which the first may be suppressed by the second, and whether it is, if the second is kept."""
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]] = []
    for group in np.unique(candidates.groups):
        own = np.flatnonzero(candidates.groups == group)
        own = own[np.argsort(-candidates.scores[own], kind="stable")]
        boxes, scores = candidates.boxes_xyxy[own].astype(np.float64), candidates.scores[own].astype(np.float64)
        for start in range(0, len(own), _ROWS):
            rows = slice(start, start + _ROWS)
            end = int(np.searchsorted(-scores, -(scores[rows].min() - 2 * margin.score), "right"))
            overlap, slack = _overlaps(boxes[rows, None], boxes[None, :end], margin.box_px)
            lead = scores[None, :end] - scores[rows, None]
            may = (overlap + slack >= iou) & (lead >= -2 * margin.score)
            may[np.arange(len(may)), start + np.arange(len(may))] = False
            first, second = np.nonzero(may)
            must = (overlap - slack > iou) & (lead > 2 * margin.score)
            pairs.append((own[start + first], own[second], must[first, second]))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool)
    worse, better, surely = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return worse, better, surely


def _overlaps(
    a: NDArray[np.float64], b: NDArray[np.float64], margin_px: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU of boxes, broadcast, and by how much it may be off if every corner is off by `margin_px`."""
    reach = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(reach, 0)
    sides_a, sides_b = a[..., 2:] - a[..., :2], b[..., 2:] - b[..., :2]
    shared = sides.prod(axis=-1)
    union = sides_a.prod(axis=-1) + sides_b.prod(axis=-1) - shared
    around = 2 * sides.sum(axis=-1) + sides_a.sum(axis=-1) + sides_b.sum(axis=-1)
    there = union > 0
    touching = (reach >= -2 * margin_px).all(axis=-1)
    overlap = np.divide(shared, union, out=np.zeros_like(union), where=there)
    # areas change by twice the margin times half their circumference
    slack = np.divide(2 * margin_px * around, union, out=np.zeros_like(union), where=there)
    # boxes without an area have no IoU, and with one of some margin any
    return overlap, np.where(touching, np.where(there, slack + _IOU_ROUNDING, 1.0), 0.0)
