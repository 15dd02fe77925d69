"""Slices: metrics of images that share an attribute value or a density of plants, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.curves import Matches
from detection.evaluation.intervals import Interval, intervals

DENSITY = "boxes per image"
"""Key of the slices that every dataset has: thirds of the images by their number of boxes."""

_MOST_VALUES = 20  # an attribute with more values is an identifier, not a category


@dataclass(frozen=True)
class Slice:
    """Metrics of images that share an attribute value.

    Attributes:
        key, value: the attribute, such as `light` and `dusk`.
        images: number of images.
        groups: number of their groups; with a single one the intervals are meaningless.
        boxes: number of ground-truth boxes.
        AP50: with its interval.
        AP: with its interval.

    """

    key: str
    value: str
    images: int
    groups: int
    boxes: int
    AP50: Interval
    AP: Interval

    def to_dict(self) -> dict[str, object]:
        """For `metrics.json`."""
        numbers = {"AP50": self.AP50.to_dict(), "AP": self.AP.to_dict()}
        counts = {"images": self.images, "groups": self.groups, "boxes": self.boxes}
        return {"key": self.key, "value": self.value, **counts, **numbers}


def slices(
    dataset: Dataset,
    matches: Matches,
    weights: NDArray[np.float64],
    groups: Sequence[str],
    *,
    key: str | None = None,
) -> tuple[Slice, ...]:
    """Every slice with at least one box, the lowest AP50 first.

    Args:
        dataset: the ground truth.
        matches: of its detections.
        weights: resamples, as `detection.evaluation.intervals.draw_groups` gives them.
        groups: of each image, as used for the resamples.
        key: an attribute to include however many values it has.

    """
    found = []
    for name, values in _parts(dataset, key).items():
        for value, indices in values.items():
            inside = np.zeros(len(dataset), bool)
            inside[list(indices)] = True
            own = matches.only(inside)
            boxes = int(own.boxes.sum())
            if not boxes:
                continue
            ends = intervals(own, weights)
            together = len({groups[index] for index in indices})
            found.append(Slice(name, value, len(indices), together, boxes, ends["AP50"], ends["AP"]))
    return tuple(sorted(found, key=lambda part: part.AP50.value))


def _parts(dataset: Dataset, wanted: str | None) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Indices of the images by key and value; only keys that divide the dataset."""
    parts: dict[str, dict[str, list[int]]] = {}
    for index, image in enumerate(dataset.images):
        for key, value in image.attributes.items():
            parts.setdefault(key, {}).setdefault(value, []).append(index)
    dividing = {
        key: values
        for key, values in parts.items()
        if key == wanted or (1 < len(values) <= _MOST_VALUES and len(values) < len(dataset))
    }
    return dividing | _densities(dataset)


def _densities(dataset: Dataset) -> dict[str, dict[str, list[int]]]:
    counts = np.array([int((~image.iscrowd).sum()) for image in dataset.images])
    filled = counts[counts > 0]
    if len(np.unique(filled)) < 3:
        return {}
    low, high = (int(v) for v in np.quantile(filled, [1 / 3, 2 / 3], method="lower"))
    if low == high:
        return {}
    parts = {
        _span(1, low): (counts > 0) & (counts <= low),
        _span(low + 1, high): (counts > low) & (counts <= high),
    }
    parts |= {f"{high + 1} or more": counts > high}
    return {DENSITY: {name: np.flatnonzero(mask).tolist() for name, mask in parts.items()}}


def _span(least: int, most: int) -> str:
    return f"{least}" if least == most else f"{least} to {most}"
