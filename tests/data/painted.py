"""Images whose boxes can be seen in their pixels, and an `Augment` with everything off but what a test names."""

from __future__ import annotations

import numpy as np

from data.augmentation.augment import Augment
from data.augmentation.settings import AugmentSettings

NO_BOXES = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int64)
SIZE_HW = (40, 60)
RED = (0, 0, 255)  # BGR


def only(size_hw=SIZE_HW, **changes) -> Augment:
    return Augment(AugmentSettings(**{"strength": "none", **changes}), size_hw=size_hw)


def painted(boxes, size_hw=SIZE_HW) -> np.ndarray:
    image = np.full((*size_hw, 3), 90, np.uint8)
    for x1, y1, x2, y2 in np.asarray(boxes, int):
        image[y1:y2, x1:x2] = RED
    return image


def found(image) -> list[int]:
    rows, columns = np.nonzero((image == RED).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def run(augment, image, boxes, seed=0):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return augment(image, boxes, np.arange(len(boxes)), seed=seed)


BOX = [5, 7, 25, 12]  # in 60 x 40
