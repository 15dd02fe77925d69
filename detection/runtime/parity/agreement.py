"""Agreement of two detectors: what a file of lower precision must show, whose boxes cannot all be equal.

In float16 and in 8-bit integers corners and scores move a little, and a box at a cut-off may appear or vanish. What a
robot acts on must stay the same: the boxes above their class's threshold, and, so that a detector with low scores is
checked too, the best few of each image.
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
    """When two boxes of the same class match, and how many must.

    Attributes:
        iou: least intersection over union.
        score: largest difference of their scores.
        share: of the boxes compared, the share that must have a match on the other side.

    """

    iou: float
    score: float
    share: float


TOLERANCES = {"fp16": Tolerance(0.9, 0.02, 0.98), "int8": Tolerance(0.75, 0.1, 0.9)}
"""By precision, chosen from what docs/design/precision.md shows of sound files and of broken ones."""

_OVERLAPS = (0.5, 0.75, 0.9)
_BEST = 3  # boxes of an image that are compared whatever their score


@dataclass
class Agreement:
    """How many of either side's detections the other side has too, over all images compared.

    Attributes:
        precision: `fp16` or `int8`.
        score_thresholds: one per class; boxes at or above it are compared.
        images: compared.
        boxes: compared, of both sides.
        matched: of these, those with a match within the tolerance.
        matched_at: by IoU, those that overlap one of the same class by as much, whatever the scores.
        malformed: outputs that break the graph's contract (order, padding, range).

    """

    precision: str
    score_thresholds: Sequence[float]
    images: int = 0
    boxes: int = 0
    matched: int = 0
    matched_at: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_OVERLAPS, 0))
    malformed: int = 0

    @property
    def tolerance(self) -> Tolerance:
        """The tolerance of this precision."""
        return TOLERANCES[self.precision]

    @property
    def share(self) -> float:
        """Share of the compared boxes that have a match; 1 where neither side found anything."""
        return self.matched / self.boxes if self.boxes else 1.0

    @property
    def passed(self) -> bool:
        """Whether the two detectors agree."""
        return self.share >= self.tolerance.share and self.malformed == 0

    def add(self, reference: Detections, output: Detections) -> None:
        """Compare the detections of one image, in the same pixels: all boxes above the pre-NMS score threshold."""
        self.images += 1
        thresholds = np.asarray(self.score_thresholds, np.float32)
        for own, other in ((reference, output), (output, reference)):
            compared = (own.scores >= thresholds[own.labels]) | (np.argsort(np.argsort(-own.scores)) < _BEST)
            self.boxes += int(compared.sum())
            self.matched += self._count(own, other, compared, self.tolerance.iou, self.tolerance.score)
            for overlap in _OVERLAPS:
                self.matched_at[overlap] += self._count(own, other, compared, overlap, 1.0)

    def _count(
        self, own: Detections, other: Detections, compared: NDArray[np.bool_], overlap: float, score: float
    ) -> int:
        """Number of the compared boxes that get a box of `other`, one to one, in order of score."""
        free = np.ones(len(other), bool)
        count = 0
        for index in np.flatnonzero(compared):
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
            "agreement_required": rule.share,
            "agreement_criterion": f"same class, IoU >= {rule.iou}, scores within {rule.score}",
            "overlapping": {f"{overlap}": self._part(count) for overlap, count in self.matched_at.items()},
            "malformed_outputs": self.malformed,
        }

    def _part(self, count: int) -> float:
        return round(count / self.boxes, 4) if self.boxes else 1.0

    def fault(self) -> str:
        """What is wrong, in one clause; empty where it passed."""
        if self.passed:
            return ""
        rule = self.tolerance
        return (
            f"{self.share:.1%} of {self.boxes} boxes agree with PyTorch's (IoU >= {rule.iou}, scores within "
            f"{rule.score}), at least {rule.share:.0%} must; {self.malformed} malformed outputs"
        )

    def summary(self) -> str:
        """The share that agrees and the criterion, in one clause."""
        return f"{self.share:.1%} of them agree: IoU >= {self.tolerance.iou}, scores within {self.tolerance.score}"
