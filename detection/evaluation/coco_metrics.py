"""COCO metrics by pycocotools itself, and AP30, LAMR and best-F1 thresholds from the same matching."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data import Dataset
from detection.evaluation.coco_matching import match
from detection.evaluation.curves import Matches, average_precision, log_average_miss_rate, mean_defined
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's 12 metrics, in pycocotools' order."""

Engine = Literal["pycocotools", "faster-coco-eval"]
"""What computes the 12 metrics: both give the same values, the second much faster on large datasets."""


@dataclass(frozen=True, eq=False)
class ClassMetrics:
    """Metrics of one class: fractions, -1 where it has no boxes.

    Attributes:
        AP, AP50, AP75, AR100: as COCO defines them, of this class alone.
        AP30: AP at IoU 0.3.
        LAMR: log-average miss rate, see `detection.evaluation.curves.log_average_miss_rate`; 0 is best.
        boxes: ground-truth boxes.
        threshold: the score of the highest F1 at IoU 0.5; None where there is no true positive.
        precision, recall: at that threshold, at IoU 0.5.
        curve_recall, curve_precision, curve_score: float (101,), the precision-recall curve at IoU 0.5.

    """

    AP: float
    AP50: float
    AP75: float
    AR100: float
    AP30: float
    LAMR: float
    boxes: int
    threshold: float | None
    precision: float
    recall: float
    curve_recall: NDArray[np.float64]
    curve_precision: NDArray[np.float64]
    curve_score: NDArray[np.float64]

    def to_dict(self) -> dict[str, float | int | None]:
        """The metrics as a dict, without the curve."""
        names = ("AP", "AP50", "AP75", "AR100", "AP30", "LAMR", "boxes", "threshold", "precision", "recall")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class SizeMetrics:
    """Metrics of one of COCO's size ranges, mean over classes; -1 where there are no boxes.

    Attributes:
        AP, AP50: of boxes of this size.
        boxes: ground-truth boxes.

    """

    AP: float
    AP50: float
    boxes: int


@dataclass(frozen=True, eq=False)
class CocoMetrics:
    """Metrics of a dataset and of each class: fractions, -1 where undefined.

    Attributes:
        coco: the 12 metrics, by `NAMES`.
        AP30: mean over classes, at IoU 0.3.
        LAMR: mean over classes of the log-average miss rate; 0 is best.
        per_class: by name.
        sizes: `small` (area below 32 x 32 pixels), `medium` and `large` (from 96 x 96 on).
        matches: every detection, and at which IoU it is a true positive.

    """

    coco: Mapping[str, float]
    AP30: float
    LAMR: float
    per_class: Mapping[str, ClassMetrics]
    sizes: Mapping[str, SizeMetrics]
    matches: Matches


def ground_truth(dataset: Dataset) -> dict[str, Any]:
    """The dataset as the COCO dict that pycocotools reads, with every digit of its boxes."""
    annotations: list[dict[str, Any]] = []
    for image in dataset.images:
        for box, label, area, crowd in zip(
            image.boxes_xywh.tolist(), image.labels, image.areas_px, image.iscrowd, strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": dataset.category_ids[int(label)],
                    "bbox": box,
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [
            {"id": p.image_id, "file_name": p.path.name, "height": p.size_hw[0], "width": p.size_hw[1]}
            for p in dataset.images
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(dataset.category_ids, dataset.class_names, strict=True)],
        "annotations": annotations,
    }


def coco_results(dataset: Dataset, detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections as COCO results.

    Args:
        dataset: the images.
        detections: one per image in the dataset's order, labelled as the dataset.

    """
    results: list[dict[str, Any]] = []
    for image, found in zip(dataset.images, detections, strict=True):
        for box, score, label in zip(found.boxes_xyxy, found.scores, found.labels, strict=True):
            x1, y1, x2, y2 = (float(v) for v in box)
            results.append(
                {
                    "image_id": image.image_id,
                    "category_id": dataset.category_ids[int(label)],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(score),
                }
            )
    return results


def coco_metrics(dataset: Dataset, results: list[dict[str, Any]], engine: Engine = "pycocotools") -> CocoMetrics:
    """Compute the metrics of COCO results on a dataset.

    Args:
        dataset: the ground truth.
        results: as `coco_results` gives them.
        engine: what computes the 12 metrics, of the dataset and of each class.

    Raises:
        SwathError: the engine is not installed.

    """
    coco_eval = _evaluated(ground_truth(dataset), results, engine)
    matches = match(dataset, results)
    loose = average_precision(matches)[0, 0]  # (class,) at `LOOSE_IOU`
    # COCOeval sorts the category ids; the dataset may not
    at = {category: k for k, category in enumerate(coco_eval.params.catIds)}
    missed = log_average_miss_rate(matches)
    per_class = {
        name: _class_metrics(
            coco_eval,
            at[category],
            AP30=float(loose[label]),
            LAMR=float(missed[label]),
            boxes=int(matches.boxes[:, label].sum()),
        )
        for label, (name, category) in enumerate(zip(dataset.class_names, dataset.category_ids, strict=True))
    }
    coco = {n: float(v) for n, v in zip(NAMES, coco_eval.stats, strict=True)}
    return CocoMetrics(
        coco, mean_defined(loose), mean_defined(missed), per_class, _sizes(coco_eval, dataset), matches
    )


def _classes(engine: Engine) -> tuple[Any, Any]:
    """`COCO` and `COCOeval` of the engine."""
    if engine == "pycocotools":
        return COCO, COCOeval
    try:
        import faster_coco_eval
    except ImportError:
        raise SwathError('the engine faster-coco-eval is not installed: pip install "swath[fast-eval]"') from None
    return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster


def _evaluated(truth: dict[str, Any], results: list[dict[str, Any]], engine: Engine) -> Any:
    """A finished `COCOeval` of either engine."""
    coco, evaluator_class = _classes(engine)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        there, found = coco(), coco()
        there.dataset = truth
        there.createIndex()
        if results:
            found = there.loadRes([dict(r) for r in results])
        else:  # loadRes cannot take an empty list
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        coco_eval = evaluator_class(there, found, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def best_f1_thresholds(metrics: CocoMetrics, class_names: Sequence[str]) -> NDArray[np.float32]:
    """Score of the best F1 of each class, float32 (C,); above 1 for a class without a true positive."""
    thresholds = [metrics.per_class[name].threshold for name in class_names]
    return np.array([1.1 if t is None else t for t in thresholds], np.float32)


def _sizes(coco_eval: Any, dataset: Dataset) -> dict[str, SizeMetrics]:
    areas = np.concatenate([p.areas_px[~p.iscrowd] for p in dataset.images] + [np.zeros(0)])
    found = {}
    for index, (name, (least, most)) in enumerate(
        zip(coco_eval.params.areaRngLbl, coco_eval.params.areaRng, strict=True)
    ):
        if name != "all":
            precision = coco_eval.eval["precision"][:, :, :, index, -1]  # (IoU, recall, class)
            inside = int(((areas >= least) & (areas <= most)).sum())
            found[name] = SizeMetrics(mean_defined(precision), mean_defined(precision[0]), inside)
    return found


def _class_metrics(coco_eval: Any, k: int, *, AP30: float, LAMR: float, boxes: int) -> ClassMetrics:
    precision = coco_eval.eval["precision"][:, :, k, 0, -1]  # (IoU, recall), all areas, 100 detections
    recall = coco_eval.eval["recall"][:, k, 0, -1]
    at_50, scores_50 = precision[0], coco_eval.eval["scores"][0, :, k, 0, -1]
    points = coco_eval.params.recThrs
    f1 = np.where(at_50 > 0, 2 * at_50 * points / np.maximum(at_50 + points, 1e-12), 0)
    best = int(f1.round(9).argmax())  # of values equal but for rounding the first, with either engine
    usable = f1[best] > 0
    return ClassMetrics(
        AP=mean_defined(precision),
        AP50=mean_defined(precision[0]),
        AP75=mean_defined(precision[5]),
        AR100=mean_defined(recall),
        AP30=AP30,
        LAMR=LAMR,
        boxes=boxes,
        threshold=float(scores_50[best]) if usable else None,
        precision=float(at_50[best]) if usable else 0.0,
        recall=float(points[best]) if usable else 0.0,
        curve_recall=points,
        curve_precision=at_50,
        curve_score=scores_50,
    )
