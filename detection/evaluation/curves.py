"""Matched detections of a dataset, and what is computed from them: AP, its resamples, miss rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO samples precision."""

_FALSE_PER_IMAGE = np.logspace(-2, 0, 9)
_LEAST_MISS_RATE = 1e-10
_EPSILON = float(np.spacing(1))  # as pycocotools keeps its quotients defined
_CHUNK = 4_000_000  # detections times resamples computed at once
_STEPS = 1000  # points of a class's curve when it is resampled


@dataclass(frozen=True, eq=False)
class Matches:
    """The matched detections of a dataset, by class, best score first, equal scores in pycocotools' order.

    Attributes:
        iou: float (T,), IoU thresholds of the matching: 0.3, then COCO's ten.
        image: int64 (D,), index of the image in the dataset.
        label: int64 (D,).
        score: float64 (D,).
        true_positive: bool (T, D), whether it is matched to a ground-truth box.
        ignored: bool (T, D), whether it counts neither as true nor as false positive (it lies in a crowd region).
        boxes: int64 (P, C), number of ground-truth boxes of each class in each image.

    """

    iou: NDArray[np.float64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    true_positive: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.int64]

    @classmethod
    def in_order(
        cls,
        iou: NDArray[np.float64],
        image: NDArray[np.int64],
        label: NDArray[np.int64],
        score: NDArray[np.float64],
        true_positive: NDArray[np.bool_],
        ignored: NDArray[np.bool_],
        boxes: NDArray[np.int64],
    ) -> Matches:
        """Matches sorted as this class requires; detections of equal label and score keep their order."""
        order = np.lexsort((-score, label))
        return cls(iou, image[order], label[order], score[order], true_positive[:, order], ignored[:, order], boxes)

    def at(self, iou: float) -> int:
        """Row of `true_positive` and `ignored` for one of the IoU thresholds."""
        return int(np.abs(self.iou - iou).argmin())

    def only(self, images: NDArray[np.bool_]) -> Matches:
        """The matches of some images, selected by bool (P,); the other images stay, without boxes or detections."""
        kept = images[self.image]
        return Matches(
            self.iou,
            self.image[kept],
            self.label[kept],
            self.score[kept],
            self.true_positive[:, kept],
            self.ignored[:, kept],
            self.boxes * images[:, None],
        )

    def of_class(self, label: int) -> slice:
        """Slice of the detections of a class."""
        return slice(*np.searchsorted(self.label, (label, label + 1)))


def average_precision(matches: Matches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """AP of every class at every IoU, of the dataset or of resamples of its images.

    With all weights 1 it is what pycocotools computes, operation by operation. An image of weight 2 counts twice.

    Args:
        matches: of the dataset.
        weights: (B, P), how often each image is in each resample, whole numbers; None: the dataset as it is, B = 1.

    Returns:
        float (B, T, C), -1 where a class has no boxes.

    """
    if weights is None:
        weights = np.ones((1, len(matches.boxes)))
    return np.stack([_class_ap(matches, label, weights) for label in range(matches.boxes.shape[1])], axis=2)


def resampled_precision(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for many resamples of many detections, faster: curves have at most 1000 points per class.

    The error of this on the dataset itself is added to the AP of every resample.

    Args:
        matches: of the dataset.
        weights: (B, P).

    Returns:
        float (B, T, C), -1 where a class has no boxes.

    """
    found = []
    once = np.ones((1, len(matches.boxes)))
    for label in range(matches.boxes.shape[1]):
        own = matches.of_class(label)
        if own.stop - own.start <= _STEPS:
            found.append(_class_ap(matches, label, weights))
            continue
        ap = _class_ap_in_steps(matches, label, np.vstack([once, weights]))
        left_out = _class_ap(matches, label, once) - ap[:1]
        found.append(np.where(ap[1:] >= 0, np.clip(ap[1:] + left_out, 0, 1), -1.0))
    return np.stack(found, axis=2)


def _class_ap(matches: Matches, label: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, T)."""
    own = matches.of_class(label)
    found = np.full((len(weights), len(matches.iou)), -1.0)
    to_find = weights @ matches.boxes[:, label].astype(np.float64)
    part = max(1, _CHUNK // max(1, own.stop - own.start))
    for first in range(0, len(weights), part):
        rows = slice(first, first + part)
        weight = weights[rows][:, matches.image[own]]
        counted = np.cumsum(weight, axis=1)
        for t in range(len(matches.iou)):
            ignored = matches.ignored[t, own]
            so_far = np.cumsum(weight * ~ignored, axis=1) if ignored.any() else counted
            # precision falls at every false positive: the curve consists of the true positives alone
            at = np.flatnonzero(matches.true_positive[t, own] & ~ignored)
            true_positives = np.cumsum(weight[:, at], axis=1)
            found[rows, t] = _sampled(true_positives, so_far[:, at], to_find[rows])
    return found


def _class_ap_in_steps(matches: Matches, label: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, T); the best detections one by one, then in steps of equal size."""
    own = matches.of_class(label)
    count, images = own.stop - own.start, len(matches.boxes)
    rank, single = np.arange(count), _STEPS // 2  # at the top of the curve every detection matters
    rest = single + (rank - single) * (_STEPS - single) // (count - single)
    place = matches.image[own] * _STEPS + np.where(rank < single, rank, rest)

    def so_far(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        inside = np.bincount(place[which], minlength=images * _STEPS).reshape(images, _STEPS)
        return np.cumsum(weights @ inside.astype(np.float64), axis=1)

    to_find = weights @ matches.boxes[:, label].astype(np.float64)
    counted = so_far(np.ones(count, bool))
    found = np.empty((len(weights), len(matches.iou)))
    for t in range(len(matches.iou)):
        ignored = matches.ignored[t, own]
        true_positives = so_far(matches.true_positive[t, own] & ~ignored)
        found[:, t] = _sampled(true_positives, so_far(~ignored) if ignored.any() else counted, to_find)
    return found


def _sampled(
    true_positives: NDArray[np.float64], counted: NDArray[np.float64], to_find: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean precision at COCO's recalls, each row a curve; -1 without boxes."""
    precision = true_positives / (counted + _EPSILON)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.hstack([precision, np.zeros((len(precision), 1))])  # recalls that are not reached
    mean = np.full(len(true_positives), -1.0)
    rows = np.flatnonzero(to_find > 0)
    # Where true_positives / to_find reaches each recall, of all rows by one search: counts are whole numbers, so that
    # rows that follow one another, each above the one before, stay exact.
    needed = np.ceil(RECALLS * to_find[rows, None])
    needed -= (needed - 1) / to_find[rows, None] >= RECALLS  # as the quotient is rounded, not the product
    needed += needed / to_find[rows, None] < RECALLS
    above = (to_find.max(initial=0) + 2) * np.arange(len(rows))[:, None]
    at = np.searchsorted((true_positives[rows] + above).ravel(), (needed + above).ravel()).reshape(needed.shape)
    at -= np.arange(len(rows))[:, None] * true_positives.shape[1]
    mean[rows] = np.take_along_axis(precision[rows], at, axis=1).mean(axis=1)
    return mean


def recall_at_end(matches: Matches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Largest recall of every class at every IoU: what COCO averages to AR100.

    Args:
        matches: of the dataset.
        weights: as `average_precision` takes them.

    Returns:
        float (B, T, C), -1 where a class has no boxes.

    """
    images, classes = matches.boxes.shape
    if weights is None:
        weights = np.ones((1, images))
    to_find = weights @ matches.boxes.astype(np.float64)
    recall = np.full((len(weights), len(matches.iou), classes), -1.0)
    place = matches.image * classes + matches.label
    for t in range(len(matches.iou)):
        good = matches.true_positive[t] & ~matches.ignored[t]
        true_positives = weights @ np.bincount(place[good], minlength=images * classes).reshape(images, classes)
        np.divide(true_positives, to_find, out=recall[:, t], where=to_find > 0)
    return recall


def mean_defined(values: NDArray[np.float64]) -> float:
    """Mean of the defined values (above -1); -1 if there are none."""
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def log_average_miss_rate(matches: Matches, iou: float = 0.5) -> NDArray[np.float64]:
    """Log-average miss rate: geometric mean of the miss rate over 0.01 to 1 false positives per image; 0 is best.

    P. Dollar et al., "Pedestrian Detection: An Evaluation of the State of the Art" (TPAMI 2012), section 3: at nine
    rates evenly spaced in log space, each the miss rate at the highest recall that keeps to it.

    Args:
        matches: of the dataset.
        iou: from which IoU on a detection is a true positive.

    Returns:
        float (C,), -1 for classes without boxes.

    """
    images, classes = matches.boxes.shape
    t = matches.at(iou)
    rates = np.full(classes, -1.0)
    for label in np.flatnonzero(matches.boxes.sum(axis=0)):
        own = matches.of_class(int(label))
        counts = ~matches.ignored[t, own]
        true_positives = np.cumsum(matches.true_positive[t, own] & counts)
        false = np.cumsum(~matches.true_positive[t, own] & counts) / images
        recall = np.append(0.0, true_positives / matches.boxes[:, label].sum())
        missed = 1 - recall[np.searchsorted(false, _FALSE_PER_IMAGE, side="right")]
        rates[label] = np.exp(np.log(np.maximum(missed, _LEAST_MISS_RATE)).mean())
    return rates
