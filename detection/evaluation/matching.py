"""Which detection found which box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

MATCH_IOU = 0.5
"""A detection counts as a hit if it overlaps a box of its class by at least this much."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """One image's detections against its boxes, at the thresholds of the report.

    Attributes:
        kept: the detections at or above their class's threshold.
        hit: bool (len(kept),), those that found a box.
        found: bool (boxes of the truth,), those that were found.

    """

    kept: Detections
    hit: NDArray[np.bool_]
    found: NDArray[np.bool_]

    @property
    def mistakes(self) -> int:
        """False detections and missed boxes."""
        return int((~self.hit).sum() + (~self.found).sum())


def judge(
    truth_xyxy: NDArray[np.float32],
    truth_labels: NDArray[np.int64],
    detections: Detections,
    thresholds: NDArray[np.float32] | float = 0.0,
) -> Outcome:
    """Match detections to boxes greedily, best score first, one to one, as COCO does at IoU 0.5.

    Args:
        truth_xyxy: float32 (M, 4), the image's boxes.
        truth_labels: int64 (M,), in the numbering of the detections' labels.
        detections: what was found.
        thresholds: per class, or one for all; detections below are left out.

    """
    floors = np.asarray(thresholds, np.float32)
    kept = detections[detections.scores >= (floors[detections.labels] if floors.ndim else floors)]
    kept = kept[np.argsort(-kept.scores, kind="stable")]
    hit = np.zeros(len(kept), bool)
    taken = np.zeros(len(truth_labels), bool)
    overlap = np.where(kept.labels[:, None] == truth_labels, iou(kept.boxes_xyxy[:, None], truth_xyxy), 0.0)
    for index in np.flatnonzero(overlap.max(axis=1, initial=0.0) >= MATCH_IOU):
        free = np.where(taken, 0.0, overlap[index])
        if free.max() >= MATCH_IOU:
            taken[free.argmax()] = hit[index] = True
    return Outcome(kept, hit, taken)
