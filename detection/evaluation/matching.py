"""Greedy one-to-one matching of detections to ground-truth boxes, in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

MATCH_IOU = 0.5
"""Least IoU of a true positive with a box of its class."""


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """One image's detections matched to its boxes.

    Attributes:
        kept: the detections at or above their class's threshold, best score first.
        true_positive: bool (len(kept),), those that are matched to a box.
        found: bool (ground-truth boxes,), those that are matched to a detection.

    """

    kept: Detections
    true_positive: NDArray[np.bool_]
    found: NDArray[np.bool_]

    @property
    def errors(self) -> int:
        """Number of false positives and false negatives."""
        return int((~self.true_positive).sum() + (~self.found).sum())


def match_detections(
    truth_xyxy: NDArray[np.float32],
    truth_labels: NDArray[np.int64],
    detections: Detections,
    thresholds: NDArray[np.float32] | float = 0.0,
) -> MatchedDetections:
    """Match detections to ground-truth boxes greedily, best score first, one to one, as COCO does at IoU 0.5.

    Args:
        truth_xyxy: float32 (M, 4), the image's boxes.
        truth_labels: int64 (M,), in the numbering of the detections' labels.
        detections: of the image.
        thresholds: score thresholds, per class or one for all; detections below are left out.

    """
    limits = np.asarray(thresholds, np.float32)
    kept = detections[detections.scores >= (limits[detections.labels] if limits.ndim else limits)]
    kept = kept[np.argsort(-kept.scores, kind="stable")]
    true_positive = np.zeros(len(kept), bool)
    taken = np.zeros(len(truth_labels), bool)
    overlap = np.where(kept.labels[:, None] == truth_labels, iou(kept.boxes_xyxy[:, None], truth_xyxy), 0.0)
    for index in np.flatnonzero(overlap.max(axis=1, initial=0.0) >= MATCH_IOU):
        free = np.where(taken, 0.0, overlap[index])
        if free.max() >= MATCH_IOU:
            taken[free.argmax()] = true_positive[index] = True
    return MatchedDetections(kept, true_positive, taken)
