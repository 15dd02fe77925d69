"""Suppression of a graph against torchvision's, on candidates that were designed to tell two rules apart.

Corners are whole numbers, so that every IoU is the same in both to the last bit, also one just at the threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detection.export.parity.graph_part import Part
from detection.export.parity.side import Suppression

_NEAR = Fraction(1, 50)  # IoUs within this of the threshold are tried
_LARGEST_SIDE = 40  # pixels, of the boxes that have them


class _Design:
    """Candidates of one image that fills up, group by group."""

    def __init__(self, step: Suppression) -> None:
        self.boxes = np.zeros((*step.shape, 4), np.float32)
        self.scores = np.zeros(step.shape, np.float32)
        if len(step.shape) == 2:
            self.scores -= 1
        self.groups = np.zeros(step.shape, np.int64)
        if len(step.shape) == 2:
            self.groups += np.arange(step.shape[0])[:, None]
        self._step = step
        self._used = [0] * (step.shape[0] if len(step.shape) == 2 else 1)

    def add(self, box_xyxy: tuple[int, int, int, int], score: float, group: int) -> None:
        """Put a candidate into the next free place, if there is one."""
        row = group % len(self._used) if len(self._step.shape) == 2 else 0
        index = self._used[row]
        if index >= self._step.shape[-1]:
            return
        self._used[row] += 1
        place = (row, index) if len(self._step.shape) == 2 else (index,)
        self.boxes[place], self.scores[place] = box_xyxy, score
        if len(self._step.shape) == 1:
            self.groups[place] = group % self._step.groups


def designs(step: Suppression) -> dict[str, _Design]:
    """Candidates by what they try."""
    return {name: _filled(step, fill) for name, fill in _FILLS.items()}


def _filled(step: Suppression, fill: Callable[[Suppression, _Design], None]) -> _Design:
    design = _Design(step)
    fill(step, design)
    return design


def _empty(step: Suppression, design: _Design) -> None:
    """None above the threshold."""


def _ties(step: Suppression, design: _Design) -> None:
    """Boxes on top of each other, many with the very same score."""
    random = np.random.default_rng(1)
    height, width = step.size_hw
    for number in range(int(np.prod(step.shape))):
        x, y = int(random.integers(0, width - 12)), int(random.integers(0, height - 12))
        w, h = (int(one) for one in random.integers(6, 12, 2))
        design.add((x, y, x + w, y + h), float(random.integers(40, 64)) / 64, number)


def _chains(step: Suppression, design: _Design) -> None:
    """Boxes each of which overlaps its neighbours: rising, falling and from the middle."""
    height, width = step.size_hw
    side = 20
    move = max(1, int(side * (1 - step.iou) / (1 + step.iou)) - 1)  # overlaps the next by more than the threshold
    for row, y in enumerate(range(0, height - side, side + 1)):
        xs = list(range(0, width - side, move))
        for index, x in enumerate(xs):
            rank = (index, len(xs) - index, abs(index - len(xs) // 2))[row % 3]
            design.add((x, y, x + side, y + side), 0.9 - rank / 1024 - row / 65536, row)


def _full(step: Suppression, design: _Design) -> None:
    """Boxes that do not meet, more than are returned, and the same ones in another group."""
    height, width = step.size_hw
    number = 0
    for y in range(0, height - 3, 3):
        for x in range(0, width - 3, 3):
            for group in range(min(2, step.groups)):
                design.add((x, y, x + 2, y + 2), 0.95 - number / 2**20, group)
                number += 1


def _threshold(step: Suppression, design: _Design) -> None:
    """Pairs whose IoU is the threshold or a little more or less; in two groups, and across them."""
    threshold = Fraction(step.iou).limit_denominator(10**6)
    wanted = {
        Fraction(part, whole)
        for whole in range(2, _LARGEST_SIDE + 1)
        for part in range(1, whole)
        if abs(Fraction(part, whole) - threshold) <= _NEAR
    }
    height, width = step.size_hw
    places = [(x, y) for y in range(0, height - 5, 5) for x in range(0, width - _LARGEST_SIDE, _LARGEST_SIDE + 1)]
    nearest = sorted(wanted, key=lambda one: abs(one - threshold))
    for number, ((x, y), share) in enumerate(zip(places, nearest, strict=False)):
        group, score = number % min(2, step.groups), 0.9 - number / 1024
        design.add((x, y, x + share.denominator, y + 4), score, group)
        design.add((x, y, x + share.numerator, y + 4), score - 1 / 4096, group)
        if step.groups > 2:
            design.add((x, y, x + share.numerator, y + 4), score - 1 / 8192, 2)


_FILLS = {"empty": _empty, "ties": _ties, "chains": _chains, "full": _full, "threshold": _threshold}


def differing(part: Part, step: Suppression) -> dict[str, int]:
    """How many places of its outputs a graph fills otherwise than torchvision, by design; 0 where they are the same.

    All designs are one batch.
    """
    tried = designs(step)
    boxes, scores, groups = (
        np.stack([getattr(design, name) for design in tried.values()]) for name in ("boxes", "scores", "groups")
    )
    given = dict(zip(part.inputs, (boxes, scores, groups), strict=False))
    found = part(given)
    outputs = [found[name] for name in part.outputs]
    counts = {}
    for row, name in enumerate(tried):
        right: tuple[NDArray[Any], ...] = _torchvisions(
            boxes[row].reshape(-1, 4), scores[row].ravel(), groups[row].ravel(), step
        )
        own = [output[row] for output in outputs]
        if own[1].dtype == bool:  # proposals leave without scores and levels
            alive = right[2] >= 0
            right = np.where(alive[:, None], right[0], np.array([0, 0, 1, 1], np.float32)), alive
        wrong = [(a != b).reshape(len(a), -1).any(axis=1) for a, b in zip(right, own, strict=True)]
        counts[name] = int(np.any(wrong, axis=0).sum())
    return counts


def _torchvisions(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], groups: NDArray[np.int64], step: Suppression
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """What torchvision answers, padded; of equal scores the first candidate comes first."""
    alive = np.flatnonzero(scores > step.score_threshold)
    kept = batched_nms(*(torch.from_numpy(one[alive]) for one in (boxes, scores, groups)), step.iou).numpy()
    order = np.sort(alive[kept])
    order = order[np.argsort(-scores[order], kind="stable")][: step.most]
    out_boxes = np.zeros((step.most, 4), np.float32)
    out_scores, out_labels = np.zeros(step.most, np.float32), np.full(step.most, -1, np.int64)
    count = len(order)
    out_boxes[:count], out_scores[:count], out_labels[:count] = boxes[order], scores[order], groups[order]
    return out_boxes, out_scores, out_labels
