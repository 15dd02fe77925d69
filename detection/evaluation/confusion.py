"""What is taken for what, with a row and a column for the background; and what a score is worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.curves import Matches
from detection.evaluation.matching import MATCH_IOU, judge
from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections

BINS = 10

Kind = Literal["hit", "confused", "false", "missed"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How often detections of a score are hits.

    Attributes:
        count: int (BINS,), detections in each tenth of the scores from 0 to 1.
        score: float (BINS,), their mean score, 0 where there are none.
        hits: float (BINS,), the share of them that are hits.
        error: mean distance of the two, weighed by `count`; None without detections.

    """

    count: NDArray[np.int64]
    score: NDArray[np.float64]
    hits: NDArray[np.float64]
    error: float | None


@dataclass(frozen=True, eq=False)
class Pair:
    """A box of the truth and what was found there; one of them may be missing.

    Attributes:
        image: its index in the dataset.
        truth_xyxy, truth_label: the box, and its class; None and -1 where nothing stands.
        found_xyxy, found_label, score: the detection; None, -1 and 0 where nothing was found.

    """

    image: int
    truth_xyxy: NDArray[np.float32] | None
    truth_label: int
    found_xyxy: NDArray[np.float32] | None
    found_label: int
    score: float

    @property
    def kind(self) -> Kind:
        """What came of it."""
        if self.truth_xyxy is None:
            return "false"
        if self.found_xyxy is None:
            return "missed"
        return "hit" if self.truth_label == self.found_label else "confused"


def pairs(dataset: Dataset, found: Sequence[Detections], thresholds: NDArray[np.float32] | float) -> Iterator[Pair]:
    """Every box and every detection once, image by image.

    Hits are found as everywhere (same class, best score first, IoU 0.5); then what is left of the detections
    takes what is left of the boxes, best score first and whatever the class. Crowds count as nothing.

    Args:
        dataset: the truth.
        found: detections, one for each image in its order, labelled as the dataset.
        thresholds: per class, or one for all; detections below are left out.

    """
    for number, (image, seen) in enumerate(zip(dataset.images, found, strict=True)):
        real = ~image.iscrowd
        boxes, labels = image.boxes_xyxy[real], image.labels[real]
        outcome = judge(boxes, labels, seen, thresholds)
        kept = outcome.kept
        free = np.ones(len(boxes), bool)
        overlaps = iou(kept.boxes_xyxy[:, None], boxes)
        in_crowd = (
            covered_share(kept.boxes_xyxy[:, None], image.boxes_xyxy[~real]).max(axis=1, initial=0.0) >= MATCH_IOU
        )
        # hits first: each takes the box that it took in `judge`, found again in the same order
        for index in np.argsort(~outcome.hit, kind="stable"):
            own, label, score = kept.boxes_xyxy[index], int(kept.labels[index]), float(kept.scores[index])
            wanted = free & (labels == label) & outcome.found if outcome.hit[index] else free & ~outcome.found
            overlap = np.where(wanted, overlaps[index], 0.0)
            if len(overlap) and overlap.max() >= MATCH_IOU:
                box = int(overlap.argmax())
                free[box] = False
                yield Pair(number, boxes[box], int(labels[box]), own, label, score)
            elif not in_crowd[index]:
                yield Pair(number, None, -1, own, label, score)
        for left, label in zip(boxes[free], labels[free].tolist(), strict=True):
            yield Pair(number, left, label, None, -1, 0.0)


def confusion_matrix(matched: Iterable[Pair], classes: int) -> NDArray[np.int64]:
    """Boxes of the truth by row, what was found there by column; the last of each is background.

    Args:
        matched: as `pairs` gives them.
        classes: how many there are.

    Returns:
        int64 (C + 1, C + 1). Its corner is 0: background that is left alone has no number.

    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for pair in matched:
        matrix[pair.truth_label, pair.found_label] += 1  # -1 is the last row, or column
    return matrix


def calibration(matches: Matches, label: int | None = None, iou: float = MATCH_IOU) -> Calibration:
    """Whether of detections of score 0.7 seven in ten are hits.

    F. Kueppers et al., "Multivariate Confidence Calibration for Object Detection" (CVPR Workshops 2020): the
    detection expected calibration error, over the score alone.

    Args:
        matches: of the dataset.
        label: one class; None: all together.
        iou: from which overlap on a detection is a hit.

    """
    own = slice(None) if label is None else matches.of_class(label)
    t = matches.at(iou)
    counts = ~matches.ignored[t, own]
    score, hit = matches.score[own][counts], matches.hit[t, own][counts]
    place = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    scale = np.maximum(count, 1)
    scores = np.bincount(place, weights=score, minlength=BINS) / scale
    hits = np.bincount(place, weights=hit, minlength=BINS) / scale
    error = float((count * np.abs(scores - hits)).sum() / count.sum()) if len(score) else None
    return Calibration(count, scores, hits, error)
