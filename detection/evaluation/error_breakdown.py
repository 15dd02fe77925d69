"""Error breakdown after TIDE: each type of error, and the AP50 that fixing it alone would gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.coco_matching import MAX_DETECTIONS
from detection.evaluation.curves import RECALLS, mean_defined
from detection.evaluation.matching import MATCH_IOU
from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections

KINDS = ("class", "location", "both", "duplicate", "background", "missed")
"""The types of errors, in the order of the paper."""

BACKGROUND_IOU = 0.1
"""A detection without such an IoU with any box lies on background."""


@dataclass(frozen=True)
class ErrorType:
    """One type of error.

    Attributes:
        count: number of such errors, at any score; errors of a low score cost little.
        AP50: gain in AP50 if these errors alone were fixed, a fraction.

    """

    count: int
    AP50: float


@dataclass(frozen=True)
class ErrorBreakdown:
    """AP50 lost to each type of error.

    Attributes:
        AP50: as pycocotools computes it, -1 without boxes.
        kinds: by the names of `KINDS`. The gains do not add up to 1 - AP50: one error can hide another.
        mean_iou: mean IoU of the true positives; None without any.

    """

    AP50: float
    kinds: Mapping[str, ErrorType]
    mean_iou: float | None

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        kinds = {name: {"count": error.count, "AP50": error.AP50} for name, error in self.kinds.items()}
        return {"kinds": kinds, "mean_iou": self.mean_iou}


@dataclass
class _Rows:
    """All detections, best score first within an image, and their error types.

    Attributes:
        label, score: of each.
        kind: index into `KINDS`, -1 for a true positive.
        target: the ground-truth box of a class or location error, -1 for none; numbered over the whole dataset.

    """

    label: NDArray[np.int64]
    score: NDArray[np.float64]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]


def error_breakdown(dataset: Dataset, detections: Sequence[Detections]) -> ErrorBreakdown:
    """Attribute the AP50 that a detector loses to types of errors.

    D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (ECCV 2020), at IoU 0.5 and
    0.1. A detection that is no true positive is a duplicate (the box of its class is matched already), of the wrong
    class (it matches a box of another), badly localised (IoU with a box of its class below 0.5), both, or on
    background. A box is missed if it is the target of no class or location error. Where the paper's conditions
    overlap, this order decides.

    Args:
        dataset: the ground truth.
        detections: one for each image in its order, labelled as the dataset.

    """
    rows, labels, taken, overlaps = _classified(dataset, detections)
    classes = len(dataset.class_names)
    boxes = np.bincount(labels, minlength=classes)
    correct = rows.kind < 0
    whole = _mean_ap(rows.label, rows.score, correct, boxes)

    def without(kind: int) -> float:
        wrong = rows.kind == kind
        keep, right, label = ~wrong, correct.copy(), rows.label.copy()
        if KINDS[kind] in ("class", "location"):
            # the best error at a box that is not matched becomes its true positive, the others go
            order = np.flatnonzero(wrong)
            order = order[np.argsort(-rows.score[order], kind="stable")]
            order = order[~taken[rows.target[order]]]
            _, first = np.unique(rows.target[order], return_index=True)
            mended = order[first]
            keep[mended] = right[mended] = True
            label[mended] = labels[rows.target[mended]]
        return _mean_ap(label[keep], rows.score[keep], right[keep], boxes)

    about = np.zeros(len(labels), bool)
    about[rows.target[rows.target >= 0]] = True
    missed = ~taken & ~about
    left = boxes - np.bincount(labels[missed], minlength=classes)
    kinds = {name: ErrorType(int((rows.kind == k).sum()), without(k) - whole) for k, name in enumerate(KINDS[:-1])}
    # a class all of whose boxes are missed has no curve left; without them it is perfect
    gone = (boxes > 0) & (left == 0)
    aps = np.where(gone, 1.0, _aps(rows.label, rows.score, correct, left))
    kinds["missed"] = ErrorType(int(missed.sum()), mean_defined(aps) - whole)
    return ErrorBreakdown(whole, kinds, float(np.mean(overlaps)) if overlaps else None)


def _classified(
    dataset: Dataset, detections: Sequence[Detections]
) -> tuple[_Rows, NDArray[np.int64], NDArray[np.bool_], list[float]]:
    """Every detection's error type; each box's label and whether it is matched; IoU of the true positives."""
    parts: list[_Rows] = []
    labels: list[NDArray[np.int64]] = []
    taken: list[NDArray[np.bool_]] = []
    overlaps: list[float] = []
    before = 0
    # pycocotools goes by image id, which decides between equal scores
    for index in np.argsort([image.image_id for image in dataset.images], kind="stable"):
        image, seen = dataset.images[index], detections[index]
        seen = _first_of_each_class(seen[np.argsort(-seen.scores, kind="stable")])
        real = ~image.iscrowd
        truth_labels = image.labels[real]
        got, kind, target, ignored = _classify_image(
            iou(seen.boxes_xyxy[:, None], image.boxes_xyxy[real]),
            covered_share(seen.boxes_xyxy[:, None], image.boxes_xyxy[~real]),
            seen.labels,
            truth_labels,
            image.labels[~real],
            overlaps,
        )
        target = np.where(target >= 0, target + before, -1)
        rows = _Rows(seen.labels, seen.scores.astype(np.float64), kind, target)
        parts.append(_Rows(*(getattr(rows, name)[~ignored] for name in ("label", "score", "kind", "target"))))
        labels.append(truth_labels)
        taken.append(got)
        before += len(truth_labels)
    columns = ("label", "score", "kind", "target")
    joined = [np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0)]) for name in columns]
    label, score, kind, target = joined
    return (
        _Rows(label.astype(np.int64), score, kind.astype(np.int64), target.astype(np.int64)),
        np.concatenate([*labels, np.zeros(0, np.int64)]),
        np.concatenate([*taken, np.zeros(0, bool)]),
        overlaps,
    )


def _classify_image(
    iou: NDArray[np.float64],
    crowd_iou: NDArray[np.float64],
    labels: NDArray[np.int64],
    truth_labels: NDArray[np.int64],
    crowd_labels: NDArray[np.int64],
    overlaps: list[float],
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Which boxes are matched; each detection's error type, its target, and whether a crowd region ignores it."""
    got = np.zeros(len(truth_labels), bool)
    kind = np.full(len(labels), -1)
    target = np.full(len(labels), -1)
    ignored = np.zeros(len(labels), bool)
    same = labels[:, None] == truth_labels[None]
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    for row in range(len(labels)):
        free = np.where(got, 0.0, own[row])
        if len(free) and free.max() >= MATCH_IOU:
            box = len(free) - 1 - int(free[::-1].argmax())  # of equal ones the last, as pycocotools takes it
            got[box] = True
            overlaps.append(float(free[box]))
            continue
        if len(crowd_labels) and ((crowd_iou[row] >= MATCH_IOU) & (crowd_labels == labels[row])).any():
            ignored[row] = True
            continue
        of_own, of_other = own[row].max(initial=0.0), other[row].max(initial=0.0)
        if of_own >= MATCH_IOU:
            name = "duplicate"
        elif of_other >= MATCH_IOU:
            name, target[row] = "class", int(other[row].argmax())
        elif of_own >= BACKGROUND_IOU:
            name, target[row] = "location", int(own[row].argmax())
        else:
            name = "both" if of_other >= BACKGROUND_IOU else "background"
        kind[row] = KINDS.index(name)
    return got, kind, target, ignored


def _first_of_each_class(seen: Detections) -> Detections:
    """The best detections of each class, as many as COCO counts in one image."""
    rank = np.zeros(len(seen), int)
    for label in np.unique(seen.labels):
        own = seen.labels == label
        rank[own] = np.arange(own.sum())
    return seen[rank < MAX_DETECTIONS]


def _aps(
    label: NDArray[np.int64], score: NDArray[np.float64], correct: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Each class's AP as COCO samples it; -1 for classes without boxes."""
    aps = np.full(len(boxes), -1.0)
    for k in np.flatnonzero(boxes):
        own = np.flatnonzero(label == k)
        right = correct[own[np.argsort(-score[own], kind="stable")]]
        found = np.cumsum(right)
        precision = found / np.arange(1, len(right) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(found / boxes[k], RECALLS, side="left")
        aps[k] = np.append(precision, 0.0)[np.minimum(at, len(precision))].mean()
    return aps


def _mean_ap(
    label: NDArray[np.int64], score: NDArray[np.float64], correct: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> float:
    return mean_defined(_aps(label, score, correct, boxes))
