"""What driving does to an image: blur while the shutter is open, and shear while the rows are read out."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effects import PAD_VALUE

_MM_PER_MS_AT_KMH = 1 / 3.6
_MOST_BLUR = 0.08  # of the shorter side: beyond that, small plants are gone
_MOST_SHIFT = 0.2  # of the height, between the first and the last row
_FINEST = 8  # samples of the blur's path per pixel


def travel_px(speed_kmh: float, time_ms: float, gsd_mm: float) -> float:
    """How far the ground moves through the image, in pixels: speed x time / ground sampling distance.

    Args:
        speed_kmh: of the machine.
        time_ms: exposure (for blur) or read-out of all rows (for a rolling shutter).
        gsd_mm: ground that one pixel covers, in millimetres.

    """
    return speed_kmh * _MM_PER_MS_AT_KMH * time_ms / gsd_mm


def ground_moves_xy(heading_deg: float) -> tuple[float, float]:
    """Unit vector in which the ground moves through an image: against the heading (0 up, 90 right)."""
    heading = math.radians(heading_deg)
    return -math.sin(heading), math.cos(heading)


def motion_blur(image_bgr: NDArray[np.uint8], shift_xy: tuple[float, float]) -> NDArray[np.uint8]:
    """Blur along a straight path, evenly, centred on where things are: boxes stay.

    Args:
        image_bgr: uint8 (H, W, 3).
        shift_xy: the path in pixels; its length is cut to 8 % of the shorter side.

    """
    length = math.hypot(*shift_xy)
    if length < 0.5:
        return image_bgr.copy()
    factor = min(1.0, _MOST_BLUR * min(image_bgr.shape[:2]) / length)
    dx, dy = shift_xy[0] * factor, shift_xy[1] * factor
    half = math.ceil(max(abs(dx), abs(dy)) / 2) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float64)
    for t in np.linspace(-0.5, 0.5, _FINEST * math.ceil(length) + 1):
        x, y = half + t * dx, half + t * dy
        left, top = math.floor(x), math.floor(y)
        u, v = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer((1 - v, v), (1 - u, u))
    kernel /= kernel.sum()
    blurred = cv2.filter2D(image_bgr, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.uint8)


def rolling_shutter(
    image_bgr: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    *,
    shift_xy: tuple[float, float],
    wobble_px: float = 0.0,
    cycles: float = 3.0,
    phase: float = 0.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Rows read one after another while the ground moves: sideways motion leans, motion along stretches.

    The middle row stays where it is. The first row of the result is the oldest.

    Args:
        image_bgr: uint8 (H, W, 3).
        boxes_xyxy: float64 (N, 4), pixels.
        shift_xy: how far the ground moves in the image from the first row to the last, in pixels; each
            is cut to a fifth of the height.
        wobble_px: amplitude of the machine's shaking, sideways.
        cycles: of that shaking, while the image is read.
        phase: where the shaking starts, radians.

    Returns:
        The image, grey where nothing was photographed, and the boxes around the same things: float64
        (N, 4), not clipped.

    """
    height, width = image_bgr.shape[:2]
    most = _MOST_SHIFT * height
    shift_x, shift_y = (min(max(s, -most), most) for s in shift_xy)

    def sideways(y: NDArray[Any]) -> NDArray[np.float64]:
        time = y / height - 0.5
        return np.asarray(shift_x * time + wobble_px * np.sin(2 * math.pi * cycles * time + phase), np.float64)

    rows = np.arange(height) + 0.5
    from_x = (np.arange(width)[None] - sideways(rows)[:, None]).astype(np.float32)
    from_y = np.repeat((rows - 0.5 - shift_y * (rows / height - 0.5))[:, None], width, axis=1).astype(np.float32)
    # Grey, and not the image's mirror image: that would show plants that have no box.
    grey = (PAD_VALUE,) * 3
    moved = cv2.remap(image_bgr, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=grey)
    boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
    # A thing at row Y is read when y = Y + shift_y (y / H - 1/2).
    boxes[:, [1, 3]] = (boxes[:, [1, 3]] - shift_y / 2) / (1 - shift_y / height)
    for box in boxes:
        lean = sideways(np.asarray(np.linspace(box[1], box[3], 33), np.float64))
        box[[0, 2]] += lean.min(), lean.max()
    return np.asarray(moved, np.uint8), boxes
