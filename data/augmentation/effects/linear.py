"""Linear light, in which lights add and shadows multiply, and smooth random fields."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_STEPS = 4096
_CODES = np.arange(256) / 255.0
_TO_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_LEVELS = np.arange(_STEPS) / (_STEPS - 1.0)
_TO_CODE = np.rint(
    255 * np.where(_LEVELS <= 0.0031308, 12.92 * _LEVELS, 1.055 * _LEVELS ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def linear(image_bgr: NDArray[np.uint8]) -> FloatArray:
    """The light behind sRGB codes (IEC 61966-2-1): uint8 (H, W, 3) -> float32 (H, W, 3), 0 to 1."""
    return np.asarray(cv2.LUT(image_bgr, _TO_LINEAR), np.float32)


def encoded(light: FloatArray) -> NDArray[np.uint8]:
    """The inverse of `linear`: float32 (H, W, 3), clipped to 0 to 1, in 4,096 steps -> uint8 (H, W, 3)."""
    # One table of 4,096 steps: ten times as fast as the power itself.
    steps = light * np.float32(_STEPS - 1)
    steps += np.float32(0.5)
    np.clip(steps, 0, _STEPS - 1, out=steps)
    return np.asarray(_TO_CODE.take(steps.astype(np.uint16)), np.uint8)


def mean_light(light: FloatArray) -> FloatArray:
    """The mean of the three channels, float32 (H, W, 1)."""
    # numpy's own mean over three neighbours takes ten times as long.
    return np.asarray(cv2.transform(light, np.full((1, 3), 1 / 3, np.float32)), np.float32).reshape(
        *light.shape[:2], 1
    )


def cloud(size_hw: tuple[int, int], cells: int, rng: np.random.Generator, octaves: int = 3) -> FloatArray:
    """A smooth random field, float32 (H, W), stretched to 0 to 1; with `cells` bumps along the longer side."""
    height, width = size_hw
    field = np.zeros(size_hw, np.float32)
    for octave in range(octaves):
        per_px = cells * 2**octave / max(size_hw)
        grid_hw = (max(2, round(height * per_px) + 1), max(2, round(width * per_px) + 1))
        grid = rng.random(grid_hw, np.float32)
        grown = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        field += np.asarray(grown, np.float32) * 0.5**octave
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def ramp(field: FloatArray, low: float, high: float) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between (3t^2 - 2t^3)."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def plants(image_bgr: NDArray[np.uint8]) -> FloatArray:
    """A soft mask of green leaves: float32 (H, W), 0 to 1, from the excess green index.

    Woebbecke et al., "Color indices for weed identification", Transactions of the ASAE 38 (1995).
    """
    blue, green, red = cv2.split(image_bgr.astype(np.float32))
    excess = (2 * green - red - blue) / np.maximum(red + green + blue, 1.0)
    return ramp(np.asarray(excess, np.float32), 0.06, 0.18)


def along(size_hw: tuple[int, int], angle: float) -> FloatArray:
    """The position of each pixel along a direction (radians, x right, y down): float32 (H, W), 0 to 1."""
    height, width = size_hw
    y, x = np.ogrid[0:height, 0:width]
    far = (np.cos(angle) * (x + 0.5 - width / 2) + np.sin(angle) * (y + 0.5 - height / 2)).astype(np.float32)
    reach = abs(np.cos(angle)) * width / 2 + abs(np.sin(angle)) * height / 2
    return np.asarray(0.5 + far / (2 * reach), np.float32)
