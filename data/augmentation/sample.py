"""`Sample`: one image with its boxes on the way to the network, and the one rule for dropping clipped boxes."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PAD_VALUE = 114
"""Grey of what lies outside the image: the letterbox's, which the network knows to be empty."""

_LEAST_SIDE_PX = 1e-2  # thinner is nothing: float32 rounds it away


class Sample(NamedTuple):
    """An image uint8 (H, W, 3) BGR, its boxes (N, 4) in its pixels, and their labels int64 (N,)."""

    image_bgr: NDArray[np.uint8]
    boxes_xyxy: NDArray[Any]
    labels: NDArray[np.int64]


def cut_to_frame(sample: Sample, min_visibility: float) -> Sample:
    """Clip boxes to the image; drop those of which less than `min_visibility` (of the area) is left in it.

    A box with nothing left is dropped whatever `min_visibility` is. Boxes come out as float64.
    """
    rows, columns = sample.image_bgr.shape[:2]
    boxes = np.asarray(sample.boxes_xyxy, np.float64).reshape(-1, 4)
    inside = np.clip(boxes, 0, [columns, rows, columns, rows])
    sides = inside[:, 2:] - inside[:, :2]
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = (sides > _LEAST_SIDE_PX).all(axis=1) & (np.prod(sides, axis=1) >= min_visibility * whole * (1 - 1e-9))
    return Sample(sample.image_bgr, inside[keep], sample.labels[keep])


def resized(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    """The sample stretched to `size_hw`; shrinking averages areas, as the letterbox does."""
    (rows, columns), (height, width) = sample.image_bgr.shape[:2], size_hw
    if (rows, columns) == (height, width):
        return sample
    kind = cv2.INTER_AREA if width < columns else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(sample.image_bgr, (width, height), interpolation=kind), np.uint8)
    boxes = np.asarray(sample.boxes_xyxy, np.float64) * np.array([width / columns, height / rows] * 2)
    return Sample(image, boxes, sample.labels)


def at_most(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    """The sample shrunk until the letterbox has nothing left to shrink, turned or not; never enlarged.

    What follows then costs the same for a photo of any size, and works on the pixels that the network sees.
    """
    rows, columns = sample.image_bgr.shape[:2]
    (height, width) = size_hw
    scale = max(min(height / rows, width / columns), min(height / columns, width / rows))
    if scale >= 1:
        return sample
    return resized(sample, (max(1, round(rows * scale)), max(1, round(columns * scale))))
