"""Confusion matrix with a row and a column for the background, and the matched pairs that it counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.matching import MATCH_IOU, match_detections
from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections

Kind = Literal["true_positive", "confusion", "false_positive", "false_negative"]


@dataclass(frozen=True, eq=False)
class Pair:
    """A ground-truth box and the detection matched to it; one of them may be missing.

    Attributes:
        image: its index in the dataset.
        truth_xyxy, truth_label: the box, and its class; None and -1 without one.
        found_xyxy, found_label, score: the detection; None, -1 and 0 without one.

    """

    image: int
    truth_xyxy: NDArray[np.float32] | None
    truth_label: int
    found_xyxy: NDArray[np.float32] | None
    found_label: int
    score: float

    @property
    def kind(self) -> Kind:
        """Kind of match; a confusion is a false positive and a false negative in one."""
        if self.truth_xyxy is None:
            return "false_positive"
        if self.found_xyxy is None:
            return "false_negative"
        return "true_positive" if self.truth_label == self.found_label else "confusion"


def pairs(
    dataset: Dataset, detections: Sequence[Detections], thresholds: NDArray[np.float32] | float
) -> Iterator[Pair]:
    """Match every ground-truth box and every detection one to one, image by image.

    True positives are matched first (same class, best score first, IoU 0.5); then the remaining detections take the
    remaining boxes, best score first, of any class. Detections in crowd regions are ignored.

    Args:
        dataset: the ground truth.
        detections: one for each image in its order, labelled as the dataset.
        thresholds: per class, or one for all; detections below are left out.

    """
    for number, (image, seen) in enumerate(zip(dataset.images, detections, strict=True)):
        real = ~image.iscrowd
        boxes, labels = image.boxes_xyxy[real], image.labels[real]
        matched = match_detections(boxes, labels, seen, thresholds)
        kept = matched.kept
        free = np.ones(len(boxes), bool)
        overlaps = iou(kept.boxes_xyxy[:, None], boxes)
        in_crowd = (
            covered_share(kept.boxes_xyxy[:, None], image.boxes_xyxy[~real]).max(axis=1, initial=0.0) >= MATCH_IOU
        )
        # true positives first: each takes the box of `match_detections`, found again in the same order
        for index in np.argsort(~matched.true_positive, kind="stable"):
            own, label, score = kept.boxes_xyxy[index], int(kept.labels[index]), float(kept.scores[index])
            wanted = (
                free & (labels == label) & matched.found if matched.true_positive[index] else free & ~matched.found
            )
            overlap = np.where(wanted, overlaps[index], 0.0)
            if len(overlap) and overlap.max() >= MATCH_IOU:
                box = int(overlap.argmax())
                free[box] = False
                yield Pair(number, boxes[box], int(labels[box]), own, label, score)
            elif not in_crowd[index]:
                yield Pair(number, None, -1, own, label, score)
        for left, label in zip(boxes[free], labels[free].tolist(), strict=True):
            yield Pair(number, left, label, None, -1, 0.0)


def confusion_matrix(matched_pairs: Iterable[Pair], classes: int) -> NDArray[np.int64]:
    """Confusion matrix: ground truth by row, detections by column; the last of each is background.

    Args:
        matched_pairs: as `pairs` gives them.
        classes: number of classes.

    Returns:
        int64 (C + 1, C + 1). Its corner is 0: true negatives cannot be counted.

    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for pair in matched_pairs:
        matrix[pair.truth_label, pair.found_label] += 1  # -1 is the last row, or column
    return matrix
