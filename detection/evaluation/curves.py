"""Every detection of a dataset and whether it is a hit, and what is read off it: AP, its resamples, miss rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where COCO samples precision."""

_FALSE_PER_IMAGE = np.logspace(-2, 0, 9)
_LEAST_MISS_RATE = 1e-10
_EPSILON = float(np.spacing(1))  # as pycocotools keeps its quotients defined
_CHUNK = 4_000_000  # detections times resamples at once
_STEPS = 1000  # of the scores of a class, where its resamples are many


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of a whole dataset, by class, best score first, equal scores in pycocotools' order.

    Attributes:
        iou: float (T,), the overlaps that they were judged at: 0.3, then COCO's ten.
        image: int64 (D,), its index in the dataset.
        label: int64 (D,).
        score: float64 (D,).
        hit: bool (T, D), whether it found a box.
        ignored: bool (T, D), whether it counts neither as a hit nor as false (it lies in a crowd).
        boxes: int64 (P, C), how many boxes of each class there are to find in each image.

    """

    iou: NDArray[np.float64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    boxes: NDArray[np.int64]

    @classmethod
    def in_order(
        cls,
        iou: NDArray[np.float64],
        image: NDArray[np.int64],
        label: NDArray[np.int64],
        score: NDArray[np.float64],
        hit: NDArray[np.bool_],
        ignored: NDArray[np.bool_],
        boxes: NDArray[np.int64],
    ) -> Matches:
        """The same, brought in order; rows of equal label and score keep theirs."""
        order = np.lexsort((-score, label))
        return cls(iou, image[order], label[order], score[order], hit[:, order], ignored[:, order], boxes)

    def at(self, iou: float) -> int:
        """The row of `hit` and `ignored` for one of the overlaps."""
        return int(np.abs(self.iou - iou).argmin())

    def only(self, images: NDArray[np.bool_]) -> Matches:
        """What was found, and is to be found, in some of the images, bool (P,); the others stay, empty."""
        kept = images[self.image]
        return Matches(
            self.iou,
            self.image[kept],
            self.label[kept],
            self.score[kept],
            self.hit[:, kept],
            self.ignored[:, kept],
            self.boxes * images[:, None],
        )

    def of_class(self, label: int) -> slice:
        """Where the detections of a class stand."""
        return slice(*np.searchsorted(self.label, (label, label + 1)))


def average_precision(matches: Matches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """AP of every class at every overlap, of the dataset or of resamples of its images.

    With all weights 1 it is what pycocotools computes, operation by operation. An image of weight 2 counts as if
    it were there twice.

    Args:
        matches: of the dataset.
        weights: (B, P), how often each image is in each resample; None: the dataset as it is, B = 1.

    Returns:
        float (B, T, C), -1 where a class has no boxes.

    """
    if weights is None:
        weights = np.ones((1, len(matches.boxes)))
    return np.stack([_class_ap(matches, label, weights) for label in range(matches.boxes.shape[1])], axis=2)


def resampled_precision(matches: Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of many resamples of many detections, soon: curves of a class in 1000 steps of its scores at most.

    What the steps leave out of the dataset's own AP is added to every resample.

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
            # precision falls wherever there is no hit: the curve is made of the hits alone
            at = np.flatnonzero(matches.hit[t, own] & ~ignored)
            hits = np.cumsum(weight[:, at], axis=1)
            found[rows, t] = _sampled(hits, so_far[:, at], to_find[rows])
    return found


def _class_ap_in_steps(matches: Matches, label: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, T); the best detections one by one, then in steps of equal size."""
    own = matches.of_class(label)
    count, images = own.stop - own.start, len(matches.boxes)
    rank, single = np.arange(count), _STEPS // 2  # at the top of the curve every detection tells
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
        hits = so_far(matches.hit[t, own] & ~ignored)
        found[:, t] = _sampled(hits, so_far(~ignored) if ignored.any() else counted, to_find)
    return found


def _sampled(
    hits: NDArray[np.float64], counted: NDArray[np.float64], to_find: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean precision at COCO's recalls, each row a curve; -1 without boxes."""
    precision = hits / (counted + _EPSILON)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.hstack([precision, np.zeros((len(precision), 1))])  # recalls that are not reached
    mean = np.full(len(hits), -1.0)
    for row in np.flatnonzero(to_find > 0):
        at = np.searchsorted(hits[row] / to_find[row], RECALLS, side="left")
        mean[row] = precision[row, at].mean()
    return mean


def recall_at_end(matches: Matches, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Share of the boxes that any detection found, of every class at every overlap: what COCO averages to AR100.

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
        good = matches.hit[t] & ~matches.ignored[t]
        hits = weights @ np.bincount(place[good], minlength=images * classes).reshape(images, classes)
        np.divide(hits, to_find, out=recall[:, t], where=to_find > 0)
    return recall


def mean_defined(values: NDArray[np.float64]) -> float:
    """Mean of what is defined (above -1); -1 where nothing is."""
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def log_average_miss_rate(matches: Matches, iou: float = 0.5) -> NDArray[np.float64]:
    """Share of boxes missed, the geometric mean over 0.01 to 1 false detections an image: 0 is best.

    P. Dollar et al., "Pedestrian Detection: An Evaluation of the State of the Art" (TPAMI 2012), section 3: at nine
    rates evenly spaced in log space, each the miss rate at the highest recall that keeps to it.

    Args:
        matches: of the dataset.
        iou: from which overlap on a detection is a hit.

    Returns:
        float (C,), -1 for classes without boxes.

    """
    images, classes = matches.boxes.shape
    t = matches.at(iou)
    rates = np.full(classes, -1.0)
    for label in np.flatnonzero(matches.boxes.sum(axis=0)):
        own = matches.of_class(int(label))
        counts = ~matches.ignored[t, own]
        hits = np.cumsum(matches.hit[t, own] & counts)
        false = np.cumsum(~matches.hit[t, own] & counts) / images
        recall = np.append(0.0, hits / matches.boxes[:, label].sum())
        missed = 1 - recall[np.searchsorted(false, _FALSE_PER_IMAGE, side="right")]
        rates[label] = np.exp(np.log(np.maximum(missed, _LEAST_MISS_RATE)).mean())
    return rates
