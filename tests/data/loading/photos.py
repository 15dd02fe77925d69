"""Photos of a dataset that a test writes itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data import Dataset, LabelledImage


def image(path: Path, size_hw=(100, 200), boxes=((10, 10, 30, 30),), **changes) -> LabelledImage:
    n = len(boxes)
    columns = {
        "boxes_xyxy": np.array(boxes, np.float32).reshape(n, 4),
        "labels": np.arange(n) % 2,
        "areas_px": np.full(n, 100.0),
        "iscrowd": np.zeros(n, bool),
    }
    return LabelledImage(changes.pop("image_id", 1), path, size_hw, **{**columns, **changes})


def dataset(*images: LabelledImage) -> Dataset:
    return Dataset("photos", ("crop", "weed"), (3, 7), images)
