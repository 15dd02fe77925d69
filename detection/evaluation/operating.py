"""The point at which a robot works: each class's threshold, why it was chosen, and what it gives."""

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
"""The class that must not be hit, where nobody says which it is."""


@dataclass(frozen=True)
class AtWork:
    """One class at its threshold.

    Attributes:
        threshold: at and above it a detection counts.
        precision, recall: at IoU 0.5, with their intervals.

    """

    threshold: float
    precision: Rate
    recall: Rate

    @property
    def f1(self) -> float:
        """Of precision and recall."""
        both = self.precision.value + self.recall.value
        return 2 * self.precision.value * self.recall.value / both if both else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"precision": self.precision.to_dict(), "recall": self.recall.to_dict()}
        return {"threshold": self.threshold, "F1": self.f1, **rates}


@dataclass(frozen=True)
class OperatingPoint:
    """All classes at work.

    Attributes:
        classes: by name; only such as have a threshold.
        crop_hits: share of the crop plants taken for a weed; None where no class is a crop.

    """

    classes: Mapping[str, AtWork]
    crop_hits: Rate | None

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        hits = self.crop_hits.to_dict() if self.crop_hits else None
        return {"classes": {name: one.to_dict() for name, one in self.classes.items()}, "crop_hits": hits}


def crop_labels(class_names: Sequence[str], crops: Sequence[str]) -> list[int]:
    """The labels of what must not be hit; without a name the class `crop`, if there is one.

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
class Judged:
    """What thresholds are chosen and judged on.

    Attributes:
        dataset: the truth.
        found: detections, one for each image in its order, labelled as the dataset.
        matches: of them.
        resamples: (B, P), of the images.

    """

    dataset: Dataset
    found: Sequence[Detections]
    matches: Matches
    resamples: NDArray[np.float64]


def choose_thresholds(judged: Judged, goals: Sequence[Goal], crops: Sequence[str] = ()) -> dict[str, Choice]:
    """A threshold for every class: its own goal, else the one for all classes, else the best F1.

    Args:
        judged: images that training did not see.
        goals: at most one for each class, and one for all.
        crops: names of what must not be hit; see `crop_labels`.

    Raises:
        SwathError: a goal of a class that there is not, two for one class, or `crop-hits` without a crop or of one.

    """
    names = judged.dataset.class_names
    labels = crop_labels(names, crops)
    own = _goals_by_class(goals, names, labels)
    plants: CropPlants | None = None
    if any(goal.kind == "crop-hits" for goal in own.values()):
        plants = crop_plants(judged.dataset, judged.found, labels)
    return {
        name: choose(own[name], judged.matches, label, plants, judged.resamples) for label, name in enumerate(names)
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
        # a crop cannot be taken for itself: what it is detected by is free for the best F1
        found[name] = Goal("f1") if goal.kind == "crop-hits" and label in crops else goal
    if not crops and any(goal.kind == "crop-hits" for goal in found.values()):
        raise SwathError(f"--goal crop-hits: which class is the crop? Say --crop NAME: {', '.join(names)}")
    return found


def operating_point(judged: Judged, thresholds: NDArray[np.float32], crops: Sequence[str] = ()) -> OperatingPoint:
    """What thresholds give.

    Args:
        judged: the images.
        thresholds: float32 (C,); above 1: nothing of that class counts.
        crops: names of what must not be hit; see `crop_labels`.

    """
    names, matches, weights = judged.dataset.class_names, judged.matches, judged.resamples
    least = thresholds.astype(np.float64)
    classes = {
        name: AtWork(at, precision_at(matches, label, at, weights), recall_at(matches, label, at, weights))
        for label, (name, at) in enumerate(zip(names, least.tolist(), strict=True))
        if at <= 1
    }
    labels = crop_labels(names, crops)
    plants = crop_plants(judged.dataset, judged.found, labels, least) if labels else None
    return OperatingPoint(classes, plants.taken_for_weeds(weights) if plants else None)
