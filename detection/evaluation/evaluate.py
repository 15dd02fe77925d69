"""`evaluate`: a detector on a dataset, whether PyTorch runs it or the robot's own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from data.splits.groups import best_key, group_images
from detection.evaluation.caps import cap_notices
from detection.evaluation.coco_metrics import (
    CocoMetrics,
    Engine,
    best_f1_thresholds,
    coco_metrics,
    coco_results,
)
from detection.evaluation.detectors import ImageDetector, dataset_labels, max_detections, pre_nms_top_k, runs_on
from detection.evaluation.evaluation import Evaluation
from detection.evaluation.intervals import FEW_GROUPS
from detection.evaluation.operating import crop_labels
from detection.evaluation.spraying import Sprayer
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

_NO_DETECTION_COUNTS = 1.1  # above every score


@dataclass(frozen=True)
class EvaluationOptions:
    """How detections are scored.

    Attributes:
        slice_by: an attribute of the images, to score each of its values separately.
        group_by: key by which images are grouped for the intervals (see `data.splits.groups`); None: the best key
            that the dataset has.
        thresholds: by the detector's class names, the score at and above which a detection counts; None: those of
            the best F1 on these images, which is optimistic.
        crops: names of the classes that must not be hit; empty: the class `crop`, if there is one.
        sprayer: to simulate over the images; None: none.
        engine: what computes COCO's metrics.

    """

    slice_by: str | None = None
    group_by: str | None = None
    thresholds: Mapping[str, float] | None = None
    crops: Sequence[str] = ()
    sprayer: Sprayer | None = None
    engine: Engine = "pycocotools"


@dataclass(frozen=True)
class DetectorRun:
    """How the detections of a dataset came about.

    Attributes:
        seconds: the detector's time for each image; empty: not measured.
        runs_on: runtime, device and input size of the detector, as text; may be empty.
        notices: what the reader must know, one line each.

    """

    seconds: Sequence[float] = ()
    runs_on: str = ""
    notices: Sequence[str] = ()


def evaluate(
    detector: ImageDetector,
    dataset: Dataset,
    options: EvaluationOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a detector over a dataset and compute COCO's metrics with pycocotools.

        detector = load_detector(Path("weeds.onnx"))             # or a run: Path("runs/weeds")
        result = evaluate(detector, load_dataset("photos/test"))
        result.metrics.coco["AP50"]
        result.intervals["AP50"].low                             # of its 95 % interval

    Args:
        detector: anything that takes an image.
        dataset: the ground truth; classes are matched by name.
        options: how detections are scored; None: the defaults.
        progress: called after each image with (done, total).

    Raises:
        SwathError: no class in common, no image has the attribute, or there is no such class.
        DataError: an image cannot be read.

    """
    options = options or EvaluationOptions()
    labels, notices = dataset_labels(detector, dataset)
    _check(dataset, options)  # before the detector runs for minutes
    detections: list[Detections] = []
    seconds = []
    for done, (_, image) in enumerate(dataset.read(), 1):
        began = time.perf_counter()
        found = detector(image)
        seconds.append(time.perf_counter() - began)
        detections.append(relabelled(found, labels))
        if progress:
            progress(done, len(dataset))
    most, top_k = max_detections(detector), pre_nms_top_k(detector)
    notices += cap_notices(dataset, max_detections=most, pre_nms_top_k=top_k, metrics=False)
    return score(dataset, detections, options, run=DetectorRun(seconds, runs_on(detector), notices))


def score(
    dataset: Dataset,
    detections: Sequence[Detections],
    options: EvaluationOptions | None = None,
    *,
    run: DetectorRun | None = None,
) -> Evaluation:
    """Score existing detections.

    Args:
        dataset: the ground truth.
        detections: one for each image in its order, labelled as the dataset.
        options: how detections are scored; None: the defaults.
        run: how the detections came about, for the report; None: not known.

    Raises:
        SwathError: no image has the attribute, or there is no such class.

    """
    options, run = options or EvaluationOptions(), run or DetectorRun()
    key, groups, by_value = _check(dataset, options)
    results = coco_results(dataset, detections)
    metrics = coco_metrics(dataset, results, options.engine)
    return Evaluation(
        dataset=dataset,
        metrics=metrics,
        grouped_by=key,
        groups=groups,
        slice_by=options.slice_by,
        slices={value: _metrics_of(dataset, detections, rows, options) for value, rows in by_value.items()},
        thresholds=_thresholds(dataset, metrics, options.thresholds),
        model_thresholds=options.thresholds is not None,
        crops=tuple(options.crops),
        sprayer=options.sprayer,
        detections=tuple(detections),
        results=results,
        seconds=tuple(run.seconds),
        runs_on=run.runs_on,
        notices=(*dataset.notices, *run.notices, *cap_notices(dataset), *_few_groups(key, groups)),
    )


def relabelled(found: Detections, labels: NDArray[np.int64]) -> Detections:
    """Detections with other labels, without those that have none.

    Args:
        found: labelled as the detector.
        labels: int64 (classes of the detector,), the new label of each, -1 for none (see `dataset_labels`).

    """
    new = labels[found.labels] if len(found) else found.labels
    return Detections(found.boxes_xyxy, found.scores, new)[new >= 0]


def groups_of(dataset: Dataset, key: str | None) -> tuple[str, tuple[str, ...]]:
    """The grouping key that is used, and the group of each image; an image without one is a group of its own.

    Args:
        dataset: the images.
        key: see `data.splits.groups`; None: the best that the dataset has.

    Raises:
        DataError: no image has such a key.

    """
    key = key or best_key(dataset.images)
    groups = group_images(dataset.images, key)
    return key, tuple(group or f"image {p.image_id}" for group, p in zip(groups, dataset.images, strict=True))


def _check(dataset: Dataset, options: EvaluationOptions) -> tuple[str, tuple[str, ...], dict[str, list[int]]]:
    """Grouping key, groups, and the images of each slice by value.

    Raises:
        SwathError: the options do not fit the dataset.

    """
    key, groups = groups_of(dataset, options.group_by)
    by_value = _images_by_value(dataset, options.slice_by) if options.slice_by else {}
    crop_labels(dataset.class_names, options.crops)
    return key, groups, by_value


def _metrics_of(
    dataset: Dataset, detections: Sequence[Detections], rows: Sequence[int], options: EvaluationOptions
) -> CocoMetrics:
    part = dataset.subset(rows)
    return coco_metrics(part, coco_results(part, [detections[row] for row in rows]), options.engine)


def _thresholds(dataset: Dataset, metrics: CocoMetrics, given: Mapping[str, float] | None) -> NDArray[np.float32]:
    if given is None:
        return best_f1_thresholds(metrics, dataset.class_names)
    return np.array([given.get(name, _NO_DETECTION_COUNTS) for name in dataset.class_names], np.float32)


def _few_groups(key: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    count = len(set(groups))
    if count >= FEW_GROUPS or not groups:
        return ()
    return (f"the intervals rest on {count} groups of images (by {key}): with so few they are too narrow",)


def _images_by_value(dataset: Dataset, key: str) -> dict[str, list[int]]:
    """Indices of the images that share a value of an attribute, by value."""
    by_value: dict[str, list[int]] = {}
    for index, image in enumerate(dataset.images):
        if key in image.attributes:
            by_value.setdefault(image.attributes[key], []).append(index)
    if not by_value:
        known = sorted({k for p in dataset.images for k in p.attributes})
        raise SwathError(
            f"--slice-by {key}: no image of {dataset.name} has it; there are: {', '.join(known) or 'none'}"
        )
    return dict(sorted(by_value.items()))
