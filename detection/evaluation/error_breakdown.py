"""What AP50 is lost to: each kind of mistake, and what the figure would be without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.coco_matching import MOST_IN_A_IMAGE
from detection.evaluation.curves import RECALLS, mean_defined
from detection.evaluation.matching import MATCH_IOU
from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections

KINDS = ("class", "location", "both", "duplicate", "background", "missed")
"""The kinds of mistakes, in the order of the paper."""

BACKGROUND_IOU = 0.1
"""A detection that overlaps nothing by as much lies on background."""


@dataclass(frozen=True)
class Loss:
    """A kind of mistake.

    Attributes:
        count: how often it was made, whatever the score; a mistake of low score costs little.
        AP50: what is gained if these alone are put right, a fraction.

    """

    count: int
    AP50: float


@dataclass(frozen=True)
class LostAP:
    """Where a detector loses AP50.

    Attributes:
        AP50: as pycocotools computes it, -1 where there is nothing to find.
        kinds: by the names of `KINDS`. They do not add up to what is missing: mistakes hide behind one another.
        hit_iou: mean overlap of the boxes that were found with their boxes of the truth; None where none was.

    """

    AP50: float
    kinds: Mapping[str, Loss]
    hit_iou: float | None

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        kinds = {name: {"count": loss.count, "AP50": loss.AP50} for name, loss in self.kinds.items()}
        return {"kinds": kinds, "hit_iou": self.hit_iou}


@dataclass
class _Rows:
    """All detections, best score first within an image, and what they are.

    Attributes:
        label, score: of each.
        kind: index into `KINDS`, -1 for a hit.
        target: the box of the truth that a mistake of class or location was about, -1 for none; counted over the
            whole dataset.

    """

    label: NDArray[np.int64]
    score: NDArray[np.float64]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]


def lost_ap(dataset: Dataset, found: Sequence[Detections]) -> LostAP:
    """Split what is missing from AP50 by the kinds of mistakes.

    D. Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors" (ECCV 2020), at IoU 0.5 and
    0.1. A detection is, if not a hit: a duplicate (its class's box is found already), of the wrong class (it covers
    a box of another), badly located (overlaps a box of its class too little), both, or on background. A box is
    missed if no mistake of class or location was about it. Where the paper's conditions overlap, that order holds.

    Args:
        dataset: the truth.
        found: detections, one for each image in its order, labelled as the dataset.

    """
    rows, labels, taken, overlaps = _judged(dataset, found)
    classes = len(dataset.class_names)
    boxes = np.bincount(labels, minlength=classes)
    hit = rows.kind < 0
    whole = _mean_ap(rows.label, rows.score, hit, boxes)

    def without(kind: int) -> float:
        wrong = rows.kind == kind
        keep, right, label = ~wrong, hit.copy(), rows.label.copy()
        if KINDS[kind] in ("class", "location"):
            # the best of those about a box that nothing has found becomes its hit, the others go
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
    kinds = {name: Loss(int((rows.kind == k).sum()), without(k) - whole) for k, name in enumerate(KINDS[:-1])}
    # a class all of whose boxes are missed has no curve any more; without them it is perfect
    gone = (boxes > 0) & (left == 0)
    aps = np.where(gone, 1.0, _aps(rows.label, rows.score, hit, left))
    kinds["missed"] = Loss(int(missed.sum()), mean_defined(aps) - whole)
    return LostAP(whole, kinds, float(np.mean(overlaps)) if overlaps else None)


def _judged(
    dataset: Dataset, found: Sequence[Detections]
) -> tuple[_Rows, NDArray[np.int64], NDArray[np.bool_], list[float]]:
    """Every detection's kind; each box's label and whether it was found; the hits' overlaps."""
    parts: list[_Rows] = []
    labels: list[NDArray[np.int64]] = []
    taken: list[NDArray[np.bool_]] = []
    overlaps: list[float] = []
    before = 0
    # pycocotools goes by image id, which decides between equal scores
    for index in np.argsort([image.image_id for image in dataset.images], kind="stable"):
        image, seen = dataset.images[index], found[index]
        seen = _first_of_each_class(seen[np.argsort(-seen.scores, kind="stable")])
        real = ~image.iscrowd
        truth_labels = image.labels[real]
        got, kind, target, ignored = _judge_image(
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


def _judge_image(
    iou: NDArray[np.float64],
    crowd_iou: NDArray[np.float64],
    labels: NDArray[np.int64],
    truth_labels: NDArray[np.int64],
    crowd_labels: NDArray[np.int64],
    overlaps: list[float],
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Which boxes are found; each detection's kind, the box it is about, and whether a crowd swallows it."""
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
    """The best of each class, as many as COCO counts in one image."""
    rank = np.zeros(len(seen), int)
    for label in np.unique(seen.labels):
        own = seen.labels == label
        rank[own] = np.arange(own.sum())
    return seen[rank < MOST_IN_A_IMAGE]


def _aps(
    label: NDArray[np.int64], score: NDArray[np.float64], hit: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Each class's AP as COCO samples it; -1 for classes without boxes."""
    aps = np.full(len(boxes), -1.0)
    for k in np.flatnonzero(boxes):
        own = np.flatnonzero(label == k)
        right = hit[own[np.argsort(-score[own], kind="stable")]]
        found = np.cumsum(right)
        precision = found / np.arange(1, len(right) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(found / boxes[k], RECALLS, side="left")
        aps[k] = np.append(precision, 0.0)[np.minimum(at, len(precision))].mean()
    return aps


def _mean_ap(
    label: NDArray[np.int64], score: NDArray[np.float64], hit: NDArray[np.bool_], boxes: NDArray[np.int64]
) -> float:
    return mean_defined(_aps(label, score, hit, boxes))
