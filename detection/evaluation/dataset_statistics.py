"""Statistics of a dataset: what a reader must know before trusting metrics on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from data import Dataset

MOST_VALUES = 12
"""An attribute with more values is summarised by their number."""


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of one class.

    Attributes:
        boxes: number of boxes, without crowd regions.
        images: number of images with at least one.
        crowds: number of crowd regions, which are ignored.
        side_px: 5th, 50th and 95th percentile of the square root of a box's area; None without boxes.

    """

    boxes: int
    images: int
    crowds: int
    side_px: tuple[float, float, float] | None


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a dataset.

    Attributes:
        images: number of images.
        empty: number of images without a box.
        sizes: (height, width, number of images), the most frequent first.
        classes: by name.
        attributes: by name, the number of images of each value; of attributes with many values, their number.

    """

    images: int
    empty: int
    sizes: tuple[tuple[int, int, int], ...]
    classes: Mapping[str, ClassStatistics]
    attributes: Mapping[str, Mapping[str, int] | int]

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return asdict(self)


def dataset_statistics(dataset: Dataset) -> DatasetStatistics:
    """Count images, boxes, sizes and attribute values."""
    sizes = Counter(image.size_hw for image in dataset.images)
    values: dict[str, Counter[str]] = {}
    for image in dataset.images:
        for key, value in image.attributes.items():
            values.setdefault(key, Counter())[value] += 1
    return DatasetStatistics(
        images=len(dataset),
        empty=sum(not (~image.iscrowd).any() for image in dataset.images),
        sizes=tuple((*size_hw, count) for size_hw, count in sizes.most_common()),
        classes={name: _class_statistics(dataset, label) for label, name in enumerate(dataset.class_names)},
        attributes={
            key: dict(found.most_common()) if len(found) <= MOST_VALUES else len(found)
            for key, found in sorted(values.items())
        },
    )


def _class_statistics(dataset: Dataset, label: int) -> ClassStatistics:
    own = [(p.boxes_xyxy[(p.labels == label) & ~p.iscrowd], (p.labels == label) & p.iscrowd) for p in dataset.images]
    boxes = np.concatenate([one for one, _ in own]) if own else np.zeros((0, 4))
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return ClassStatistics(
        boxes=len(boxes),
        images=sum(len(one) > 0 for one, _ in own),
        crowds=sum(int(crowds.sum()) for _, crowds in own),
        side_px=tuple(np.quantile(sides, [0.05, 0.5, 0.95]).tolist()) if len(sides) else None,
    )
