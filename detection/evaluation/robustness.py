"""Robustness: AP under field effects of light, weather, dirt, motion and the camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data import Dataset
from data.augmentation.effects import KINDS
from data.augmentation.settings import AugmentSettings
from data.dataset import LabelledImage
from detection.evaluation.coco_metrics import coco_metrics, coco_results
from detection.evaluation.detectors import ImageDetector, dataset_labels
from detection.evaluation.evaluate import relabelled
from detection.runtime.detections import Detections

if TYPE_CHECKING:
    from data.augmentation.augment import Augment

EFFECTS = tuple(kind.name for kind in KINDS if kind.group in ("geometry", "photometric"))
"""The effects that are applied: those of the augmentation that keep one image with its own boxes."""

STRENGTHS = (0.2, 0.6, 1.0)
"""On the scale of the augmentation: 0 is hardly visible, 1 the strongest that training uses."""

_SEED = 7  # of every effect on every image: the same for every detector
_MIN_VISIBILITY = 0.3


@dataclass(frozen=True)
class Robustness:
    """AP under each effect.

    Attributes:
        clean: AP and AP50 of the images as they are, -1 where undefined.
        effects: by effect, then by strength, AP and AP50, -1 where the effect leaves no box to find.

    """

    clean: Mapping[str, float]
    effects: Mapping[str, Mapping[float, Mapping[str, float]]]

    def drop(self, effect: str, strength: float) -> float | None:
        """Relative drop: share of the clean AP that is lost, below 0 where AP rises.

        None where the clean AP is 0, or one of the two is undefined.
        """
        clean, there = self.clean["AP"], self.effects[effect][strength]["AP"]
        return 1 - there / clean if clean > 0 and there >= 0 else None

    @property
    def mean_drop(self) -> float | None:
        """Mean relative drop over all effects and strengths where it is defined; None where it is nowhere."""
        return float(np.mean(list(self._drops.values()))) if self._drops else None

    @property
    def worst(self) -> tuple[str, float] | None:
        """The effect and strength with the largest drop; None where it is nowhere defined."""
        return max(self._drops, key=self._drops.__getitem__, default=None)

    @property
    def _drops(self) -> dict[tuple[str, float], float]:
        places = ((effect, strength) for effect in self.effects for strength in STRENGTHS)
        return {place: drop for place in places if (drop := self.drop(*place)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        worst = None
        if self.worst is not None:
            effect, strength = self.worst
            worst = {"effect": effect, "strength": strength, "relative_drop": self.drop(effect, strength)}
        return {
            "clean": dict(self.clean),
            "strengths": list(STRENGTHS),
            "effects": {e: [dict(self.effects[e][s]) for s in STRENGTHS] for e in self.effects},
            "mean_relative_drop": self.mean_drop,
            "worst": worst,
        }


def robustness(
    detector: ImageDetector,
    dataset: Dataset,
    *,
    size_hw: tuple[int, int],
    camera: AugmentSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Robustness:
    """Evaluate a detector on every image under every effect at three strengths.

    D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
    (ICLR 2019), with the corruptions of a field. An image is shrunk to the scale of the network's input before an
    effect is applied, so that shrinking does not average the effect away.

    Args:
        detector: knows the dataset's classes by name; others are left out.
        dataset: the ground truth.
        size_hw: height and width of the network's input in pixels.
        camera: settings with the view, ground sampling distance and speeds of the camera; None: the defaults.
        progress: called after each image of each effect.

    Raises:
        DataError: an image cannot be read.

    """
    labels, _ = dataset_labels(detector, dataset)
    settings = camera or AugmentSettings()
    plans: list[tuple[str | None, float]] = [(None, 0.0), *((effect, s) for effect in EFFECTS for s in STRENGTHS)]
    augments = [_only(effect, strength, size_hw, settings) for effect, strength in plans]
    images: list[list[LabelledImage]] = [[] for _ in plans]
    found: list[list[Detections]] = [[] for _ in plans]
    for index, (image, pixels) in enumerate(dataset.read()):
        for number, augment in enumerate(augments):
            # the boxes' numbers in place of labels: shows which boxes were dropped
            shown, boxes, rows = augment(
                pixels, image.boxes_xyxy, np.arange(len(image.labels)), seed=_SEED + 1000 * index
            )
            found[number].append(relabelled(detector(shown), labels))
            images[number].append(_shown(image, shown.shape[:2], boxes, rows))
            if progress:
                progress(index * len(plans) + number + 1, len(dataset) * len(plans))
    scored = []
    for part, detections in zip(images, found, strict=True):
        truth = replace(dataset, images=tuple(part))
        coco = coco_metrics(truth, coco_results(truth, detections)).coco
        scored.append({"AP": coco["AP"], "AP50": coco["AP50"]})
    effects: dict[str, dict[float, dict[str, float]]] = {effect: {} for effect in EFFECTS}
    for (name, strength), numbers in zip(plans, scored, strict=True):
        if name is not None:
            effects[name][strength] = numbers
    return Robustness(scored[0], effects)


def _only(effect: str | None, strength: float, size_hw: tuple[int, int], camera: AugmentSettings) -> Augment:
    """One effect at one strength, or none, without any flip, crop or change of colour."""
    from data.augmentation.augment import Augment  # imports albumentations and torch: seconds

    chosen = {} if effect is None else {effect: 1.0}
    settings = camera.only(**chosen, amount=(strength, strength), min_visibility=_MIN_VISIBILITY)
    return Augment(settings, size_hw=size_hw)


def _shown(image: LabelledImage, size_hw: tuple[int, ...], boxes: Any, rows: Any) -> LabelledImage:
    """The labelled image after an effect; areas of masks keep their share of the box."""
    old = image.boxes_xyxy[rows]
    share = image.areas_px[rows] / np.maximum(np.prod(old[:, 2:] - old[:, :2], axis=1), 1e-9)
    return replace(
        image,
        size_hw=(int(size_hw[0]), int(size_hw[1])),
        boxes_xyxy=boxes,
        labels=image.labels[rows],
        areas_px=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * share,
        iscrowd=image.iscrowd[rows],
        truncated=image.truncated[rows] if len(image.truncated) else image.truncated,
        window=None,
    )
