"""COCO matching: which detections are true positives at which IoU, as pycocotools decides it, for all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.curves import Matches

LOOSE_IOU = 0.3
"""Plants have fuzzy edges: an IoU at which boxes of the same plant, drawn by two people, agree."""

OVERLAPS = np.concatenate([[LOOSE_IOU], np.linspace(0.5, 0.95, 10)])
"""IoU thresholds of the matching: 0.3, then COCO's ten."""

MAX_DETECTIONS = 100
"""COCO counts this many detections of each class in one image, the best ones."""

_LEAST = np.minimum(OVERLAPS, 1 - 1e-10)


def match(dataset: Dataset, results: Sequence[Mapping[str, Any]]) -> Matches:
    """Match detections to ground-truth boxes, image by image and class by class.

    pycocotools' `evaluateImg` for boxes of any size: best score first, each detection takes the free
    box of its class with the highest IoU, of equal ones the last; a detection without one that lies in a crowd region
    is ignored. Tests hold AP from these matches to pycocotools' own.

    Args:
        dataset: the ground truth.
        results: COCO results, as `detection.evaluation.coco_metrics.coco_results` gives them.

    """
    label_of = {category: label for label, category in enumerate(dataset.category_ids)}
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    boxes = np.zeros((len(dataset), len(dataset.class_names)), np.int64)
    image, label, score = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    true_positive, ignored = [np.zeros((len(OVERLAPS), 0), bool)], [np.zeros((len(OVERLAPS), 0), bool)]
    # pycocotools goes by image id, which decides between equal scores
    for index in np.argsort([p.image_id for p in dataset.images], kind="stable"):
        truth = dataset.images[index]
        boxes[index] = np.bincount(truth.labels[~truth.iscrowd], minlength=boxes.shape[1])
        seen = by_image.get(truth.image_id, [])
        labels = np.array([label_of[r["category_id"]] for r in seen], np.int64)
        scores = np.array([r["score"] for r in seen], np.float64)
        found_xywh = np.array([r["bbox"] for r in seen], np.float64).reshape(-1, 4)
        for own in np.unique(labels):
            rows = np.flatnonzero(labels == own)
            rows = rows[np.argsort(-scores[rows], kind="stable")][:MAX_DETECTIONS]
            real, crowd = (
                truth.boxes_xywh[(truth.labels == own) & which] for which in (~truth.iscrowd, truth.iscrowd)
            )
            matched = _matched(_iou(found_xywh[rows], real))
            in_crowd = _iou(found_xywh[rows], crowd, crowd=True).max(axis=1, initial=0.0) >= _LEAST[:, None]
            image.append(np.full(len(rows), index))
            label.append(np.full(len(rows), own))
            score.append(scores[rows])
            true_positive.append(matched)
            ignored.append(in_crowd & ~matched)
    return Matches.in_order(
        OVERLAPS,
        np.concatenate(image),
        np.concatenate(label),
        np.concatenate(score),
        np.concatenate(true_positive, axis=1),
        np.concatenate(ignored, axis=1),
        boxes,
    )


def _iou(
    found_xywh: NDArray[np.float64], truth_xywh: NDArray[np.float64], *, crowd: bool = False
) -> NDArray[np.float64]:
    """IoU (n, m), of crowds the share of the detection inside: `bbIou` of pycocotools, in the same order of steps.

    An IoU of exactly 0.5 or 0.8 is decided by the last bit of it.
    """
    found, truth = found_xywh[:, None], truth_xywh[None]
    ends = np.minimum(found[..., 2:] + found[..., :2], truth[..., 2:] + truth[..., :2])
    sides = ends - np.maximum(found[..., :2], truth[..., :2])
    shared = np.where((sides > 0).all(axis=2), sides[..., 0] * sides[..., 1], 0.0)
    found_px, truth_px = found[..., 2] * found[..., 3], truth[..., 2] * truth[..., 3]
    whole = np.broadcast_to(found_px, shared.shape) if crowd else found_px + truth_px - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)


def _matched(iou: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which detections, in their order, get a box: IoU (n, m) -> bool (T, n)."""
    matched = np.zeros((len(_LEAST), len(iou)), bool)
    if not iou.size:
        return matched
    free = np.ones((len(_LEAST), iou.shape[1]), bool)
    last = iou.shape[1] - 1
    for row in np.flatnonzero(iou.max(axis=1) >= _LEAST[0]):
        # from the right, so that of equal IoU the last comes first
        wanted = np.where(free, iou[row], -1.0)[:, ::-1]
        best = last - wanted.argmax(axis=1)
        good = np.flatnonzero(wanted.max(axis=1) >= _LEAST)
        matched[good, row] = True
        free[good, best[good]] = False
    return matched
