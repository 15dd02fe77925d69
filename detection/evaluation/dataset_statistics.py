"""What a dataset holds: what a reader must know before believing a figure of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data import Dataset

MOST_VALUES = 12
"""Of an attribute, at most so many values are named."""


@dataclass(frozen=True)
class ClassCard:
    """One class.

    Attributes:
        boxes: to find; crowds are left out.
        images: that hold one.
        crowds: groups that are neither to be found nor false.
        side_px: the 5, 50 and 95 percentiles of the square root of a box's area; None without boxes.

    """

    boxes: int
    images: int
    crowds: int
    side_px: tuple[float, float, float] | None


@dataclass(frozen=True)
class DatasetCard:
    """The whole.

    Attributes:
        images: how many.
        empty: how many of them hold no box.
        sizes: (height, width, how many images), the most frequent first.
        classes: by name.
        attributes: by name, how many images have which value; those with many values by their number alone.

    """

    images: int
    empty: int
    sizes: tuple[tuple[int, int, int], ...]
    classes: Mapping[str, ClassCard]
    attributes: Mapping[str, Mapping[str, int] | int]

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return asdict(self)


def dataset_card(dataset: Dataset) -> DatasetCard:
    """Count what there is."""
    sizes = Counter(image.size_hw for image in dataset.images)
    values: dict[str, Counter[str]] = {}
    for image in dataset.images:
        for key, value in image.attributes.items():
            values.setdefault(key, Counter())[value] += 1
    return DatasetCard(
        images=len(dataset),
        empty=sum(not (~image.iscrowd).any() for image in dataset.images),
        sizes=tuple((*size_hw, count) for size_hw, count in sizes.most_common()),
        classes={name: _class_card(dataset, label) for label, name in enumerate(dataset.class_names)},
        attributes={
            key: dict(found.most_common()) if len(found) <= MOST_VALUES else len(found)
            for key, found in sorted(values.items())
        },
    )


def _class_card(dataset: Dataset, label: int) -> ClassCard:
    own = [(p.boxes_xyxy[(p.labels == label) & ~p.iscrowd], (p.labels == label) & p.iscrowd) for p in dataset.images]
    boxes = np.concatenate([one for one, _ in own]) if own else np.zeros((0, 4))
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return ClassCard(
        boxes=len(boxes),
        images=sum(len(one) > 0 for one, _ in own),
        crowds=sum(int(crowds.sum()) for _, crowds in own),
        side_px=tuple(np.quantile(sides, [0.05, 0.5, 0.95]).tolist()) if len(sides) else None,
    )
