"""How good a detector is on a dataset, whether PyTorch runs it or the robot's own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.coco_metrics import CocoMetrics, coco_metrics, coco_results
from detection.lost_ap import LostAP, lost_ap
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class PictureDetector(Protocol):
    """Anything that finds objects in a picture."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""

    def __call__(self, image_bgr: NDArray[np.uint8], /) -> Detections:
        """A picture uint8 (H, W, 3) BGR -> detections in its own pixels."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome.

    Attributes:
        metrics: of the whole dataset.
        lost: what AP50 is lost to.
        slices: metrics of the pictures that share a value of the attribute asked for.
        found: what was found, one per picture in the dataset's order, labelled as the dataset.
        results: the same as COCO results.
        notices: what the reader must know, one line each.

    """

    metrics: CocoMetrics
    lost: LostAP
    slices: dict[str, CocoMetrics]
    found: tuple[Detections, ...]
    results: list[dict[str, Any]]
    notices: tuple[str, ...]


def load_detector(model: Path) -> PictureDetector:
    """The detector of a run, a checkpoint or an .onnx, giving every box above the model's score floor.

    Raises:
        SwathError: not there, damaged or not Swath's.

    """
    if model.suffix == ".onnx":
        return Detector(model, score_thresholds=0.0)
    from detection.checkpoint import load_trained
    from detection.torch_detector import TorchDetector

    return TorchDetector.of(load_trained(model))


def _relabel(detector: PictureDetector, dataset: Dataset) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """For each class of the detector its label in the dataset (-1: none), and what must be said of it."""
    theirs = {name: label for label, name in enumerate(dataset.class_names)}
    mapping = np.array([theirs.get(name, -1) for name in detector.class_names], np.int64)
    if (mapping < 0).all():
        model_knows, dataset_has = ", ".join(detector.class_names), ", ".join(dataset.class_names)
        raise SwathError(f"{dataset.name}: has the classes {dataset_has}; the model knows only {model_knows}")
    notices = []
    unasked = [n for n, label in zip(detector.class_names, mapping, strict=True) if label < 0]
    if unasked:
        notices.append(f"the dataset has no class {', '.join(unasked)}: such detections are left out")
    unknown = [n for n in dataset.class_names if n not in detector.class_names]
    if unknown:
        notices.append(f"the model does not know the class {', '.join(unknown)}: every such box is missed")
    return mapping, tuple(notices)


def evaluate(
    detector: PictureDetector,
    dataset: Dataset,
    *,
    slice_by: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run the detector over the dataset and score it with pycocotools.

    Args:
        detector: anything that takes a picture.
        dataset: the truth; classes are matched by name.
        slice_by: an attribute of the pictures to score separately by.
        progress: called after each picture.

    Raises:
        SwathError: no class in common, or no picture has the attribute.
        DataError: a picture cannot be read.

    """
    mapping, notices = _relabel(detector, dataset)
    found: list[Detections] = []
    for done, (_, image) in enumerate(dataset.read(), 1):
        seen = detector(image)
        labels = mapping[seen.labels] if len(seen) else seen.labels
        found.append(Detections(seen.boxes, seen.scores, labels)[labels >= 0])
        if progress:
            progress(done, len(dataset))
    results = coco_results(dataset, found)
    return Evaluation(
        metrics=coco_metrics(dataset, results),
        lost=lost_ap(dataset, found),
        slices=_slices(dataset, found, slice_by) if slice_by else {},
        found=tuple(found),
        results=results,
        notices=(*dataset.notices, *notices),
    )


def _slices(dataset: Dataset, found: list[Detections], key: str) -> dict[str, CocoMetrics]:
    groups: dict[str, list[int]] = {}
    for index, picture in enumerate(dataset.pictures):
        if key in picture.attributes:
            groups.setdefault(picture.attributes[key], []).append(index)
    if not groups:
        known = sorted({k for p in dataset.pictures for k in p.attributes})
        raise SwathError(
            f"--slice-by {key}: no picture of {dataset.name} has it; there are: {', '.join(known) or 'none'}"
        )
    scored = {}
    for value, indices in sorted(groups.items()):
        part = dataset.subset(indices)
        scored[value] = coco_metrics(part, coco_results(part, [found[i] for i in indices]))
    return scored


def metrics_json(evaluation: Evaluation, dataset: Dataset, model: str) -> str:
    """`metrics.json`: stable keys, fractions, -1 where undefined."""
    content = {
        "schema": 1,
        "model": model,
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint(),
        "pictures": len(dataset),
        "boxes": dataset.box_count,
        "coco": dict(evaluation.metrics.coco),
        "per_class": {n: m.to_dict() for n, m in evaluation.metrics.per_class.items()},
        "lost_AP50": evaluation.lost.to_dict(),
        "slices": {
            value: {"coco": dict(m.coco), "per_class": {n: c.to_dict() for n, c in m.per_class.items()}}
            for value, m in evaluation.slices.items()
        },
        "notices": list(evaluation.notices),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
