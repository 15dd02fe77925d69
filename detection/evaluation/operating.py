"""Operating point: score thresholds of all classes, chosen for goals, with their precision and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.curves import Matches
from detection.evaluation.thresholds import (
    Choice,
    CropPlants,
    Goal,
    Rate,
    choose,
    crop_plants,
    precision_at,
    recall_at,
)
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError

CROP = "crop"
"""The class that must not be hit, where none is named."""


@dataclass(frozen=True)
class ClassOperatingPoint:
    """One class at its threshold.

    Attributes:
        threshold: a detection counts at or above this score.
        precision, recall: at IoU 0.5, with their intervals.

    """

    threshold: float
    precision: Rate
    recall: Rate

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision.value + self.recall.value
        return 2 * self.precision.value * self.recall.value / both if both else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"precision": self.precision.to_dict(), "recall": self.recall.to_dict()}
        return {"threshold": self.threshold, "F1": self.f1, **rates}


@dataclass(frozen=True)
class OperatingPoint:
    """All classes at their thresholds.

    Attributes:
        classes: by name; only those with a threshold.
        crop_hits: share of the crop plants detected as weeds; None without a crop class.

    """

    classes: Mapping[str, ClassOperatingPoint]
    crop_hits: Rate | None

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        hits = self.crop_hits.to_dict() if self.crop_hits else None
        return {"classes": {name: one.to_dict() for name, one in self.classes.items()}, "crop_hits": hits}


def crop_labels(class_names: Sequence[str], crops: Sequence[str]) -> list[int]:
    """Labels of the classes that must not be hit; without a name the class `crop`, if there is one.

    Raises:
        SwathError: no such class, or no class that is not a crop.

    """
    unknown = [name for name in crops if name not in class_names]
    if unknown:
        raise SwathError(f"--crop: no class {unknown[0]}: there are {', '.join(class_names)}")
    if crops and len(set(crops)) == len(class_names):
        raise SwathError("--crop: every class is a crop, so there is nothing to tell it from")
    wanted = crops or ([CROP] if CROP in class_names and len(class_names) > 1 else [])
    return [class_names.index(name) for name in dict.fromkeys(wanted)]


@dataclass(frozen=True, eq=False)
class ScoredDetections:
    """Detections of a dataset with everything that thresholds are chosen from.

    Attributes:
        dataset: the ground truth.
        detections: one for each image in its order, labelled as the dataset.
        matches: of these detections.
        resamples: (B, P), how often each image is in each bootstrap resample.

    """

    dataset: Dataset
    detections: Sequence[Detections]
    matches: Matches
    resamples: NDArray[np.float64]


def choose_thresholds(
    scored: ScoredDetections, goals: Sequence[Goal], crops: Sequence[str] = ()
) -> dict[str, Choice]:
    """Choose a threshold for every class: by its own goal, else by the one for all classes, else by the best F1.

    Args:
        scored: on images that training did not see.
        goals: at most one for each class, and one for all.
        crops: names of the classes that must not be hit; see `crop_labels`.

    Raises:
        SwathError: a goal for an unknown class, two for one class, or `crop-hits` without a crop or of one.

    """
    names = scored.dataset.class_names
    labels = crop_labels(names, crops)
    own = _goals_by_class(goals, names, labels)
    plants: CropPlants | None = None
    if any(goal.kind == "crop-hits" for goal in own.values()):
        plants = crop_plants(scored.dataset, scored.detections, labels)
    return {
        name: choose(own[name], scored.matches, label, plants, scored.resamples) for label, name in enumerate(names)
    }


def _goals_by_class(goals: Sequence[Goal], names: Sequence[str], crops: Sequence[int]) -> dict[str, Goal]:
    of_all = [goal for goal in goals if goal.class_name is None]
    of_one: dict[str, Goal] = {}
    for goal in goals:
        if goal.class_name is None:
            continue
        if goal.class_name not in names:
            raise SwathError(f"--goal: no class {goal.class_name}: there are {', '.join(names)}")
        if goal.class_name in of_one:
            raise SwathError(f"--goal: two for {goal.class_name}: {of_one[goal.class_name]} and {goal}")
        if goal.kind == "crop-hits" and names.index(goal.class_name) in crops:
            raise SwathError(f"--goal {goal.class_name}:{goal}: {goal.class_name} is the crop itself")
        of_one[goal.class_name] = goal
    if len(of_all) > 1:
        raise SwathError(f"--goal: two for all classes: {of_all[0]} and {of_all[1]}")
    found = {}
    for label, name in enumerate(names):
        goal = of_one.get(name) or (of_all[0] if of_all else Goal("f1"))
        # a crop cannot be detected as itself by mistake: its own threshold is free for the best F1
        found[name] = Goal("f1") if goal.kind == "crop-hits" and label in crops else goal
    if not crops and any(goal.kind == "crop-hits" for goal in found.values()):
        raise SwathError(f"--goal crop-hits: which class is the crop? Say --crop NAME: {', '.join(names)}")
    return found


def operating_point(
    scored: ScoredDetections, thresholds: NDArray[np.float32], crops: Sequence[str] = ()
) -> OperatingPoint:
    """Precision, recall and crop hits at given thresholds.

    Args:
        scored: the detections.
        thresholds: float32 (C,); above 1: no detection of that class counts.
        crops: names of the classes that must not be hit; see `crop_labels`.

    """
    names, matches, weights = scored.dataset.class_names, scored.matches, scored.resamples
    least = thresholds.astype(np.float64)
    classes = {
        name: ClassOperatingPoint(
            at, precision_at(matches, label, at, weights), recall_at(matches, label, at, weights)
        )
        for label, (name, at) in enumerate(zip(names, least.tolist(), strict=True))
        if at <= 1
    }
    labels = crop_labels(names, crops)
    plants = crop_plants(scored.dataset, scored.detections, labels, least) if labels else None
    return OperatingPoint(classes, plants.detected_as_weeds(weights) if plants else None)
