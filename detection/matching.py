"""Which detection found which box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.dataset import Picture
from detection.runtime.detections import Detections

MATCH_IOU = 0.5
"""A detection counts as a hit if it overlaps a box of its class by at least this much."""


def iou(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of `box` (4,) with each of `boxes` (N, 4), xyxy; 0 where both are empty."""
    one, many = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2])
    intersection = np.prod(np.clip(sides, 0, None), axis=1)
    union = np.prod(one[2:] - one[:2]) + np.prod(many[:, 2:] - many[:, :2], axis=1) - intersection
    return np.divide(intersection, union, out=np.zeros(len(many)), where=union > 0)


@dataclass(frozen=True, eq=False)
class Outcome:
    """One picture's detections against its boxes, at the thresholds of the report.

    Attributes:
        kept: the detections at or above their class's threshold.
        hit: bool (len(kept),), those that found a box.
        found: bool (boxes of the picture,), those that were found.
    """

    kept: Detections
    hit: NDArray[np.bool_]
    found: NDArray[np.bool_]

    @property
    def mistakes(self) -> int:
        """False detections and missed boxes."""
        return int((~self.hit).sum() + (~self.found).sum())


def judge(picture: Picture, found: Detections, thresholds: NDArray[np.float32]) -> Outcome:
    """Match detections to boxes greedily, best score first, one to one, as COCO does at IoU 0.5.

    Args:
        picture: the truth.
        found: labelled as the dataset.
        thresholds: float (classes,); detections below their class's are left out.
    """
    kept = found[found.scores >= thresholds[found.labels]]
    kept = kept[np.argsort(-kept.scores, kind="stable")]
    hit = np.zeros(len(kept), bool)
    taken = np.zeros(len(picture.labels), bool)
    for index in range(len(kept)):
        overlap = iou(kept.boxes[index], picture.boxes_xyxy)
        overlap[taken | (picture.labels != kept.labels[index])] = 0
        if len(overlap) and overlap.max() >= MATCH_IOU:
            taken[overlap.argmax()] = hit[index] = True
    return Outcome(kept, hit, taken | picture.iscrowd)
