"""Box-by-box parity of two detectors: what every float32 file must show against PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

BOX_TOLERANCE_PX = 0.05
"""Corners may differ by this many input pixels in float32: rounding, magnified by RetinaNet's exp().

Files of lower precision are compared by `detection.runtime.parity.agreement`."""

SCORE_TOLERANCE = 1e-3
"""Scores may differ by this much."""

IOU_TOLERANCE = 1e-3
"""Within this of the NMS threshold, the last bit may decide which of two boxes survives."""

TIE = 1e-6
"""Of two boxes that suppress each other with scores this close, either may survive: many positions of a uniform
image give the same score."""

TIED_SHARE = 0.01
"""Share of all boxes that may be survivors of such a tie; with more, the graph places its boxes elsewhere."""


@dataclass
class BoxParity:
    """How far two detectors' boxes are apart, over all images compared.

    Attributes:
        images: compared.
        boxes: of the reference.
        max_box_error_px: largest distance of matched corners, in input pixels.
        max_score_error: largest difference of matched scores.
        borderline: boxes on one side only that lie at a cut-off: the pre-NMS score threshold, the number of
            detections, or the NMS threshold.
        tied: boxes on one side only, where the other side has one that overlaps it with the same score.
        different: boxes on one side only, for neither reason.
        malformed: outputs that break the graph's contract (order, padding, range).

    """

    images: int = 0
    boxes: int = 0
    max_box_error_px: float = 0.0
    max_score_error: float = 0.0
    borderline: int = 0
    tied: int = 0
    different: int = 0
    malformed: int = 0

    @property
    def unmatched(self) -> int:
        """Boxes that count against parity: the different ones, and the tied ones if they are too many."""
        return self.different + (self.tied if self.tied > TIED_SHARE * self.boxes else 0)

    @property
    def passed(self) -> bool:
        """Whether the two are the same detector."""
        return self.unmatched == 0 and self.malformed == 0

    def add(
        self,
        reference: Detections,
        output: Detections,
        *,
        pre_nms_score_threshold: float,
        nms_iou: float,
        max_detections: int,
    ) -> None:
        """Compare the detections of one image, in input pixels.

        Two boxes match if label, corners and score agree within the tolerances; each is used once.

        Args:
            reference: of the detector that is right by definition.
            output: of the other.
            pre_nms_score_threshold: cut-off of both, as in the model's metadata, like the following.
            nms_iou: IoU above which a box is suppressed.
            max_detections: most boxes of an image.

        """
        self.images += 1
        self.boxes += len(reference)
        free = np.ones(len(output), bool)
        alone: list[int] = []
        for index in range(len(reference)):
            box_error = _corner_distance(reference.boxes_xyxy[index], output.boxes_xyxy)
            score_error = np.abs(output.scores - reference.scores[index])
            fits = (
                free
                & (output.labels == reference.labels[index])
                & (box_error <= BOX_TOLERANCE_PX)
                & (score_error <= SCORE_TOLERANCE)
            )
            if not fits.any():
                alone.append(index)
                continue
            best = int(np.where(fits, box_error, np.inf).argmin())
            free[best] = False
            self.max_box_error_px = max(self.max_box_error_px, float(box_error[best]))
            self.max_score_error = max(self.max_score_error, float(score_error[best]))
        sides = ((reference[np.array(alone, int)], output), (output[free], reference))
        cuts = (pre_nms_score_threshold, nms_iou, max_detections)
        borderline = [
            np.array([_borderline(own[i : i + 1], other, *cuts) for i in range(len(own))], bool)
            for own, other in sides
        ]
        # A box that survives only because a borderline one does not suppress it is borderline too.
        edge = [own[mask] for (own, _), mask in zip(sides, borderline, strict=True)]
        for (own, other), mask in zip(sides, borderline, strict=True):
            for i in np.flatnonzero(~mask):
                mask[i] = any(_overlaps(own[i : i + 1], rivals, nms_iou) for rivals in edge)
            tied = np.array([_tied(own[i : i + 1], other, nms_iou) for i in range(len(own))], bool) & ~mask
            self.borderline += int(mask.sum())
            self.tied += int(tied.sum())
            self.different += int((~mask & ~tied).sum())

    def to_dict(self) -> dict[str, float | int]:
        """For the parity report."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "max_box_error_px": round(self.max_box_error_px, 6),
            "max_score_error": round(self.max_score_error, 8),
            "borderline_boxes": self.borderline,
            "tied_boxes": self.tied,
            "unmatched_boxes": self.unmatched,
            "malformed_outputs": self.malformed,
        }

    def fault(self) -> str:
        """What is wrong, in one clause; empty where it passed."""
        if self.passed:
            return ""
        return f"{self.unmatched} of {self.boxes} boxes differ from PyTorch's, {self.malformed} malformed outputs"

    def summary(self) -> str:
        """The largest differences, in one clause."""
        return f"corners within {self.max_box_error_px:.4f} px, scores within {self.max_score_error:.1e}"


def _corner_distance(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest distance of the corners of `box` (4,) and each of `boxes` (N, 4), in pixels."""
    distance: NDArray[np.float32] = np.abs(boxes - box).max(axis=1, initial=0.0)
    return distance


def _borderline(
    one: Detections, other: Detections, pre_nms_score_threshold: float, nms_iou: float, max_detections: int
) -> bool:
    """Whether the single box `one`, which `other` lacks, is borderline: the last bit of a score or an IoU decides."""
    score = float(one.scores[0])
    thresholds = (
        [pre_nms_score_threshold, float(other.scores.min())]
        if len(other) >= max_detections
        else [pre_nms_score_threshold]
    )
    if any(abs(score - threshold) <= SCORE_TOLERANCE for threshold in thresholds):
        return True
    rivals = other[(other.labels == one.labels[0]) & (other.scores >= score - SCORE_TOLERANCE)]
    return bool((np.abs(iou(one.boxes_xyxy[0], rivals.boxes_xyxy) - nms_iou) <= IOU_TOLERANCE).any())


def _tied(one: Detections, other: Detections, nms_iou: float) -> bool:
    """Whether `other` has a box of the same score that would suppress the single box `one`, or the reverse."""
    return _overlaps(one, other[np.abs(other.scores - one.scores[0]) <= TIE], nms_iou)


def _overlaps(one: Detections, rivals: Detections, nms_iou: float) -> bool:
    """Whether one of `rivals` would suppress the single box `one`, or be suppressed by it."""
    same = rivals[rivals.labels == one.labels[0]]
    return bool((iou(one.boxes_xyxy[0], same.boxes_xyxy) > nms_iou - IOU_TOLERANCE).any())
