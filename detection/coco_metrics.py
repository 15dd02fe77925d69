"""COCO's numbers by pycocotools itself, and what follows from the same curves: best-F1 thresholds per class."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data import Dataset
from detection.runtime.detections import Detections

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""The 12 numbers, in pycocotools' order."""


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """One class: fractions, -1 where there is nothing to find.

    Attributes:
        AP, AP50, AP75, AR100: as COCO defines them, of this class alone.
        boxes: boxes to find.
        threshold: the score at which F1 at IoU 0.5 is highest; None where nothing can be found.
        precision, recall: at that threshold, at IoU 0.5.
        curve_recall, curve_precision, curve_score: float (101,), the precision-recall curve at IoU 0.5.

    """

    AP: float
    AP50: float
    AP75: float
    AR100: float
    boxes: int
    threshold: float | None
    precision: float
    recall: float
    curve_recall: NDArray[np.float64]
    curve_precision: NDArray[np.float64]
    curve_score: NDArray[np.float64]

    def to_dict(self) -> dict[str, float | int | None]:
        """The numbers, without the curve."""
        names = ("AP", "AP50", "AP75", "AR100", "boxes", "threshold", "precision", "recall")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """The 12 numbers of a dataset (fractions, -1 where undefined) and each class's own."""

    coco: Mapping[str, float]
    per_class: Mapping[str, ClassMetrics]


def ground_truth(dataset: Dataset) -> dict[str, Any]:
    """The dataset as the COCO dict that pycocotools reads; boxes become xywh here and nowhere else."""
    annotations: list[dict[str, Any]] = []
    for picture in dataset.pictures:
        for box, label, area, crowd in zip(
            picture.boxes_xyxy, picture.labels, picture.areas_px, picture.iscrowd, strict=True
        ):
            x1, y1, x2, y2 = (float(v) for v in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.image_id,
                    "category_id": dataset.category_ids[int(label)],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [
            {"id": p.image_id, "file_name": p.path.name, "height": p.size_hw[0], "width": p.size_hw[1]}
            for p in dataset.pictures
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(dataset.category_ids, dataset.class_names, strict=True)],
        "annotations": annotations,
    }


def coco_results(dataset: Dataset, found: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections, one per picture in the dataset's order, labelled as the dataset, as COCO results."""
    results: list[dict[str, Any]] = []
    for picture, detections in zip(dataset.pictures, found, strict=True):
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            results.append(
                {
                    "image_id": picture.image_id,
                    "category_id": dataset.category_ids[int(label)],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(score),
                }
            )
    return results


def coco_metrics(dataset: Dataset, results: list[dict[str, Any]]) -> CocoMetrics:
    """Score COCO results against the dataset with pycocotools.

    Args:
        dataset: the truth.
        results: as `coco_results` gives them.

    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = ground_truth(dataset)
        truth.createIndex()
        if results:
            answers = truth.loadRes([dict(r) for r in results])
        else:  # loadRes cannot take an empty list
            answers = COCO()
            answers.dataset = {**truth.dataset, "annotations": []}
            answers.createIndex()
        judge = COCOeval(truth, answers, "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    boxes = np.zeros(len(dataset.class_names), int)
    for picture in dataset.pictures:
        np.add.at(boxes, picture.labels[~picture.iscrowd], 1)
    # pycocotools sorts the category ids; the dataset may not
    at = {category: k for k, category in enumerate(judge.params.catIds)}
    per_class = {
        name: _class_metrics(judge, at[category], int(boxes[label]))
        for label, (name, category) in enumerate(zip(dataset.class_names, dataset.category_ids, strict=True))
    }
    return CocoMetrics({n: float(v) for n, v in zip(NAMES, judge.stats, strict=True)}, per_class)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


def _class_metrics(judge: COCOeval, k: int, boxes: int) -> ClassMetrics:
    precision = judge.eval["precision"][:, :, k, 0, -1]  # (IoU, recall), all areas, 100 detections
    recall = judge.eval["recall"][:, k, 0, -1]
    at_50, scores_50 = precision[0], judge.eval["scores"][0, :, k, 0, -1]
    points = judge.params.recThrs
    f1 = np.where(at_50 > 0, 2 * at_50 * points / np.maximum(at_50 + points, 1e-12), 0)
    best = int(f1.argmax())
    usable = f1[best] > 0
    return ClassMetrics(
        AP=_mean(precision),
        AP50=_mean(precision[0]),
        AP75=_mean(precision[5]),
        AR100=_mean(recall),
        boxes=boxes,
        threshold=float(scores_50[best]) if usable else None,
        precision=float(at_50[best]) if usable else 0.0,
        recall=float(points[best]) if usable else 0.0,
        curve_recall=points,
        curve_precision=at_50,
        curve_score=scores_50,
    )
