"""A validation during training: COCO metrics, and a few images with ground truth and detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data import Dataset
from detection.evaluation.coco_metrics import best_f1_thresholds
from detection.evaluation.evaluate import evaluate
from detection.models.torch_detector import TorchDetector
from detection.training.visualisation import draw_detections, fixed_images


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """What a validation found.

    Attributes:
        metrics: COCO's 12 numbers by name, -1 where undefined.
        per_class: AP of each class by name, -1 where there is no object of it.
        image_rgb: uint8 (H, W, 3), the same few images each time with ground truth and detections.

    """

    metrics: Mapping[str, float]
    per_class: Mapping[str, float]
    image_rgb: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Validator:
    """Scores a network on the validation images.

    Attributes:
        dataset: the validation images.
        class_names: of the network, label 0, 1, ...
        preset: name of its preset.
        size_hw: height and width of its input in pixels.

    """

    dataset: Dataset
    class_names: tuple[str, ...]
    preset: str
    size_hw: tuple[int, int]

    def __call__(
        self, network: nn.Module, *, device: torch.device, progress: Callable[[int, int], None]
    ) -> ValidationResult:
        """Score `network`, which is in eval mode afterwards; `progress` is called with (done, images)."""
        # on XLA every image with another number of boxes would be compiled anew
        scored = (deepcopy(network).to("cpu") if device.type == "xla" else network).eval()
        detector = TorchDetector(scored, self.preset, self.class_names, self.size_hw)
        with torch.compiler.set_stance("force_eager"):  # compiling for single images costs more than it saves
            outcome = evaluate(detector, self.dataset, progress=progress)
        thresholds = best_f1_thresholds(outcome.metrics, self.dataset.class_names)
        image_bgr = draw_detections(self.dataset, fixed_images(self.dataset), outcome.detections, thresholds)
        per_class = {name: of_class.AP for name, of_class in outcome.metrics.per_class.items()}
        return ValidationResult(outcome.metrics.coco, per_class, image_bgr[..., ::-1])
