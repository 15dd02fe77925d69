"""The same figures of a part of the images: of one field, one light, one density of plants; the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.curves import Matches
from detection.evaluation.intervals import Interval, intervals

DENSITY = "boxes in the image"
"""The slice that every dataset has: thirds of the images, by how many boxes they hold."""

_MOST_VALUES = 20  # an attribute with more of them is a name, not a kind


@dataclass(frozen=True)
class Slice:
    """Images that share something.

    Attributes:
        key, value: what they share, such as `light` and `dusk`.
        images, boxes: how many there are.
        groups: that the images are of; the intervals of one alone say nothing.
        AP50: with its interval.
        AP: likewise.

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
    """Every slice in which there is something to find, the lowest AP50 first.

    Args:
        dataset: the truth.
        matches: of it.
        weights: resamples, as `detection.evaluation.intervals.draw_groups` gives them.
        groups: of each image, by which they were drawn.
        key: an attribute that is wanted however many values it has.

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
    """By key and value, the indices of the images; only keys that tell images apart."""
    parts: dict[str, dict[str, list[int]]] = {}
    for index, image in enumerate(dataset.images):
        for key, value in image.attributes.items():
            parts.setdefault(key, {}).setdefault(value, []).append(index)
    telling = {
        key: values
        for key, values in parts.items()
        if key == wanted or (1 < len(values) <= _MOST_VALUES and len(values) < len(dataset))
    }
    return telling | _densities(dataset)


def _densities(dataset: Dataset) -> dict[str, dict[str, list[int]]]:
    counts = np.array([int((~image.iscrowd).sum()) for image in dataset.images])
    filled = counts[counts > 0]
    if len(np.unique(filled)) < 3:
        return {}
    low, high = (int(v) for v in np.quantile(filled, [1 / 3, 2 / 3], method="lower"))
    if low == high:
        return {}
    parts = {f"1 to {low}": (counts > 0) & (counts <= low), f"{low + 1} to {high}": (counts > low) & (counts <= high)}
    parts |= {f"{high + 1} and more": counts > high}
    return {DENSITY: {name: np.flatnonzero(mask).tolist() for name, mask in parts.items()}}
