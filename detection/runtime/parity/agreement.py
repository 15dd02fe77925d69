"""Do two detectors find the same things? The question for a file of lower precision, whose boxes cannot all be equal.

In float16 and in 8-bit integers corners and scores move a little, and a box at the edge of a cut may come or go.
What a robot acts on must stay: the boxes above their class's threshold, and, so that a detector that is sure of
nothing is judged too, the best few of each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import iou
from detection.runtime.detections import Detections


@dataclass(frozen=True)
class Tolerance:
    """When two boxes of the same class are one, and how many must be.

    Attributes:
        iou: they overlap at least so much.
        score: their scores are at most so far apart.
        share: so many of the boxes looked at must have their like on the other side.

    """

    iou: float
    score: float
    share: float


TOLERANCES = {"fp16": Tolerance(0.9, 0.02, 0.98), "int8": Tolerance(0.75, 0.1, 0.9)}
"""By precision, chosen from what docs/design/precision.md shows of sound files and of broken ones."""

_OVERLAPS = (0.5, 0.75, 0.9)
_BEST = 3  # boxes of an image that are looked at whatever their score


@dataclass
class Agreement:
    """How much of what either side found the other one found too, over all images compared.

    Attributes:
        precision: `fp16` or `int8`.
        score_thresholds: one per class; boxes from there on are looked at.
        images: compared.
        boxes: looked at, of both sides.
        matched: of these have their like.
        matched_at: of these overlap one of the same class so much, whatever the scores, by overlap.
        wrong_form: answers that break the graph's own promises (order, padding, range).

    """

    precision: str
    score_thresholds: Sequence[float]
    images: int = 0
    boxes: int = 0
    matched: int = 0
    matched_at: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_OVERLAPS, 0))
    wrong_form: int = 0

    @property
    def tolerance(self) -> Tolerance:
        """Of this precision."""
        return TOLERANCES[self.precision]

    @property
    def share(self) -> float:
        """Of the boxes looked at, those that have their like; 1 where neither side found anything."""
        return self.matched / self.boxes if self.boxes else 1.0

    @property
    def holds(self) -> bool:
        """Whether the two find the same things."""
        return self.share >= self.tolerance.share and self.wrong_form == 0

    def add(self, reference: Detections, answer: Detections) -> None:
        """Compare the two answers to one image, in pixels of the same image, all above the score floor."""
        self.images += 1
        thresholds = np.asarray(self.score_thresholds, np.float32)
        for own, other in ((reference, answer), (answer, reference)):
            looked_at = (own.scores >= thresholds[own.labels]) | (np.argsort(np.argsort(-own.scores)) < _BEST)
            self.boxes += int(looked_at.sum())
            self.matched += self._count(own, other, looked_at, self.tolerance.iou, self.tolerance.score)
            for overlap in _OVERLAPS:
                self.matched_at[overlap] += self._count(own, other, looked_at, overlap, 1.0)

    def _count(
        self, own: Detections, other: Detections, looked_at: NDArray[np.bool_], overlap: float, score: float
    ) -> int:
        """Of the boxes looked at, those with one of `other` to themselves; the best box chooses first."""
        free = np.ones(len(other), bool)
        count = 0
        for index in np.flatnonzero(looked_at):
            overlaps = iou(own.boxes_xyxy[index], other.boxes_xyxy)
            distance = np.abs(other.scores - own.scores[index])
            fits = free & (other.labels == own.labels[index]) & (overlaps >= overlap) & (distance <= score)
            if fits.any():
                best = int(np.where(fits, overlaps, -1).argmax())
                free[best] = False
                count += 1
        return count

    def to_dict(self) -> dict[str, object]:
        """For the parity report."""
        rule = self.tolerance
        return {
            "images": self.images,
            "boxes": self.boxes,
            "agreement": round(self.share, 4),
            "agreement_least": rule.share,
            "agreement_means": f"same class, IoU >= {rule.iou}, scores within {rule.score}",
            "overlapping": {f"{overlap}": self._part(count) for overlap, count in self.matched_at.items()},
            "wrong_form": self.wrong_form,
        }

    def _part(self, count: int) -> float:
        return round(count / self.boxes, 4) if self.boxes else 1.0

    def fault(self) -> str:
        """What is wrong, in words; empty where it holds."""
        if self.holds:
            return ""
        rule = self.tolerance
        return (
            f"{self.share:.1%} of {self.boxes} boxes agree with PyTorch's (IoU >= {rule.iou}, scores within "
            f"{rule.score}), at least {rule.share:.0%} must; {self.wrong_form} malformed answers"
        )

    def closeness(self) -> str:
        """How near the two are, in words."""
        return f"{self.share:.1%} of them alike: IoU >= {self.tolerance.iou}, scores within {self.tolerance.score}"
