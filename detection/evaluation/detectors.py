"""Detectors under evaluation: a run or checkpoint in PyTorch, or an .onnx by the robot's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError


class ImageDetector(Protocol):
    """Anything that finds objects in an image."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""

    def __call__(self, image_bgr: NDArray[np.uint8], /) -> Detections:
        """An image uint8 (H, W, 3) BGR -> detections in its own pixels."""


def load_detector(model: Path, provider: str | None = None) -> ImageDetector:
    """The detector of a run, a checkpoint or an .onnx, with every box above the pre-NMS score threshold.

    Args:
        model: the run or file.
        provider: for an .onnx, as `Detector` takes it; None is onnxruntime on the CPU.

    Raises:
        SwathError: missing, damaged or not Swath's; a provider that is not live, or given for a run.

    """
    if model.suffix == ".onnx":
        return Detector(model, providers=None if provider is None else [provider], score_thresholds=0.0)
    if provider is not None:
        raise SwathError(f"{model}: --provider is for an .onnx; a run computes in PyTorch")
    from detection.models.checkpoint import load_trained
    from detection.models.torch_detector import TorchDetector

    return TorchDetector.of(load_trained(model))


def model_thresholds(detector: ImageDetector) -> dict[str, float] | None:
    """Score thresholds in a detector's model file, by class name; None for a run, which has none yet."""
    if not isinstance(detector, Detector):
        return None
    metadata = detector.metadata
    return dict(zip(metadata.class_names, metadata.score_thresholds, strict=True))


def runs_on(detector: ImageDetector) -> str:
    """Runtime, device and input size of a detector, as text; empty if it does not say."""
    return str(getattr(detector, "runs_on", ""))


def input_size_hw(detector: ImageDetector) -> tuple[int, int] | None:
    """Height and width of the network's input in pixels, if a model file says so."""
    return detector.metadata.input_size_hw if isinstance(detector, Detector) else None


def max_detections(detector: ImageDetector) -> int | None:
    """Most boxes that a detector gives an image; None if it does not say."""
    return _limit(detector, "max_detections")


def pre_nms_top_k(detector: ImageDetector) -> int | None:
    """Most boxes that enter a detector's NMS, per level or class; None if it has no such limit or does not say."""
    return _limit(detector, "pre_nms_top_k")


def _limit(detector: ImageDetector, name: str) -> int | None:
    given = getattr(detector.metadata if isinstance(detector, Detector) else detector, name, None)
    return None if given is None else int(given)


def dataset_labels(detector: ImageDetector, dataset: Dataset) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """A dataset's label for each class of a detector, matched by name, -1 where it has none.

    Returns:
        int64 (classes of the detector,), and a notice for each kind of class that only one side knows.

    Raises:
        SwathError: no class in common.

    """
    labels = {name: label for label, name in enumerate(dataset.class_names)}
    mapping = np.array([labels.get(name, -1) for name in detector.class_names], np.int64)
    if (mapping < 0).all():
        model_knows, dataset_has = ", ".join(detector.class_names), ", ".join(dataset.class_names)
        raise SwathError(f"{dataset.name}: has the classes {dataset_has}; the model knows only {model_knows}")
    notices = []
    unlabelled = [n for n, label in zip(detector.class_names, mapping, strict=True) if label < 0]
    if unlabelled:
        notices.append(f"the dataset has no class {', '.join(unlabelled)}: such detections are left out")
    unknown = [n for n in dataset.class_names if n not in detector.class_names]
    if unknown:
        notices.append(f"the model does not know the class {', '.join(unknown)}: every such box is missed")
    return mapping, tuple(notices)
