"""Do two detectors give the same boxes? The question that every exported file must answer with yes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

BOX_TOLERANCE_PX = 0.05
"""Corners may differ by this much of an input pixel in float32: rounding, magnified by RetinaNet's exp().

Files of lower precision are compared by `detection.runtime.parity.agreement`."""

SCORE_TOLERANCE = 1e-3
"""Scores may differ by this much."""

DELTA_AP_POINTS = {"fp32": 0.1, "fp16": 0.2, "int8": 0.5}
"""By how many points (hundredths of AP) a file may differ from PyTorch, beyond what may be chance."""

CHANCE_IN_BUDGETS = 2.0
"""So much may be put down to chance at most, however few the images were."""

SMALL_AP_FALL_POINTS = {"int8": 1.0}
"""By how many points the AP of small objects may fall, where that is watched."""

IOU_TOLERANCE = 1e-3
"""Within this of the NMS threshold, which of two boxes survives may hang on the last bit."""

TIE = 1e-6
"""Of two boxes that suppress each other with scores as near as this, either may survive: many places of a flat
image look alike."""

TIED_SHARE = 0.01
"""So many of all boxes may be survivors of such a tie; more are a graph that puts its boxes elsewhere."""


@dataclass
class Parity:
    """How far the answers were apart, over all images compared.

    Attributes:
        images: compared.
        boxes: of the reference.
        max_box_error_px: largest distance of two corners that belong together, in input pixels.
        max_score_error: largest distance of their scores.
        undecided: boxes on one side only, because they lie on the edge of a cut: the score floor, the
            number of detections, or the NMS threshold.
        tied: boxes on one side only, where the other side has one that overlaps it and is as sure.
        apart: boxes on one side only, without such an excuse.
        wrong_form: answers that break the graph's own promises (order, padding, range).

    """

    images: int = 0
    boxes: int = 0
    max_box_error_px: float = 0.0
    max_score_error: float = 0.0
    undecided: int = 0
    tied: int = 0
    apart: int = 0
    wrong_form: int = 0

    @property
    def unmatched(self) -> int:
        """Boxes that make two detectors of them: those apart, and the tied ones where they are more than chance."""
        return self.apart + (self.tied if self.tied > TIED_SHARE * self.boxes else 0)

    @property
    def holds(self) -> bool:
        """Whether the two are the same detector."""
        return self.unmatched == 0 and self.wrong_form == 0

    def add(
        self,
        reference: Detections,
        answer: Detections,
        *,
        score_floor: float,
        nms_iou: float,
        max_detections: int,
    ) -> None:
        """Compare the two answers to one image, in input pixels.

        Boxes belong together if label, corners and score agree within the tolerances; each is used once.
        """
        self.images += 1
        self.boxes += len(reference)
        free = np.ones(len(answer), bool)
        alone: list[int] = []
        for index in range(len(reference)):
            box_error = _corner_distance(reference.boxes_xyxy[index], answer.boxes_xyxy)
            score_error = np.abs(answer.scores - reference.scores[index])
            fits = (
                free
                & (answer.labels == reference.labels[index])
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
        sides = ((reference[np.array(alone, int)], answer), (answer[free], reference))
        cuts = (score_floor, nms_iou, max_detections)
        excused = [
            np.array([_on_a_cut(own[i : i + 1], other, *cuts) for i in range(len(own))], bool) for own, other in sides
        ]
        # A box that lives only because an excused one does not suppress it is excused with it.
        edge = [own[mask] for (own, _), mask in zip(sides, excused, strict=True)]
        for (own, other), mask in zip(sides, excused, strict=True):
            for i in np.flatnonzero(~mask):
                mask[i] = any(_overlaps(own[i : i + 1], rivals, nms_iou) for rivals in edge)
            tied = np.array([_tied(own[i : i + 1], other, nms_iou) for i in range(len(own))], bool) & ~mask
            self.undecided += int(mask.sum())
            self.tied += int(tied.sum())
            self.apart += int((~mask & ~tied).sum())

    def to_dict(self) -> dict[str, float | int]:
        """For the parity report."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "max_box_error_px": round(self.max_box_error_px, 6),
            "max_score_error": round(self.max_score_error, 8),
            "undecided_boxes": self.undecided,
            "tied_boxes": self.tied,
            "unmatched_boxes": self.unmatched,
            "wrong_form": self.wrong_form,
        }

    def fault(self) -> str:
        """What is wrong, in words; empty where it holds."""
        if self.holds:
            return ""
        return f"{self.unmatched} of {self.boxes} boxes differ from PyTorch's, {self.wrong_form} malformed answers"

    def closeness(self) -> str:
        """How near the two are, in words."""
        return f"corners within {self.max_box_error_px:.4f} px, scores within {self.max_score_error:.1e}"


def ap_faults(
    precision: str, delta_points: float | None, small_fall_points: float | None, chance_points: float = 0.0
) -> list[str]:
    """What is wrong with a file's AP, in words; nothing where it holds.

    Args:
        precision: of the file.
        delta_points: by how much its AP differs from PyTorch's, either way; None: not known.
        small_fall_points: by how much that of small objects is lower; None: not known, or there are none.
        chance_points: how much of `delta_points` other images of the same kind may have shown instead.

    """
    faults = []
    budget = DELTA_AP_POINTS[precision]
    if delta_points is not None and delta_points - min(chance_points, CHANCE_IN_BUDGETS * budget) > budget:
        by_chance = f", of which {chance_points:.2f} may be chance" if chance_points else ""
        faults.append(f"AP is off by {delta_points:.2f} points{by_chance}")
    most = SMALL_AP_FALL_POINTS.get(precision)
    if most is not None and small_fall_points is not None and small_fall_points > most:
        faults.append(f"AP of small objects is {small_fall_points:.2f} points lower")
    return faults


def _corner_distance(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest distance of the corners of `box` (4,) and each of `boxes` (N, 4), in pixels."""
    distance: NDArray[np.float32] = np.abs(boxes - box).max(axis=1, initial=0.0)
    return distance


def _on_a_cut(one: Detections, other: Detections, score_floor: float, nms_iou: float, max_detections: int) -> bool:
    """Whether the single box `one`, which `other` lacks, hangs on the last bit of a score or an overlap."""
    score = float(one.scores[0])
    floors = [score_floor, float(other.scores.min())] if len(other) >= max_detections else [score_floor]
    if any(abs(score - floor) <= SCORE_TOLERANCE for floor in floors):
        return True
    rivals = other[(other.labels == one.labels[0]) & (other.scores >= score - SCORE_TOLERANCE)]
    return bool((np.abs(iou(one.boxes_xyxy[0], rivals.boxes_xyxy) - nms_iou) <= IOU_TOLERANCE).any())


def _tied(one: Detections, other: Detections, nms_iou: float) -> bool:
    """Whether `other` has a box that is as sure as the single box `one` and would suppress it, or be suppressed."""
    return _overlaps(one, other[np.abs(other.scores - one.scores[0]) <= TIE], nms_iou)


def _overlaps(one: Detections, rivals: Detections, nms_iou: float) -> bool:
    """Whether one of `rivals` would suppress the single box `one`, or be suppressed by it."""
    same = rivals[rivals.labels == one.labels[0]]
    return bool((iou(one.boxes_xyxy[0], same.boxes_xyxy) > nms_iou - IOU_TOLERANCE).any())
