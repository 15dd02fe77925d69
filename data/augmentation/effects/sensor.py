"""The sensor and its automatics: exposure, white balance, noise."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import photometric
from data.augmentation.effects.linear import encoded, linear

_LEAST_EXPOSURE_EV, _MOST_EXPOSURE_EV = -2.2, 1.2
_KNEE = 0.75  # from here on highlights are compressed rather than clipped: a camera's own tone curve
_CODES = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)  # what depends on the value alone is a table
_FULL_WELL = (9000.0, 400.0)  # electrons at white, at `amount` 0 and 1: base sensitivity, and dusk


def exposure(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Automatic exposure gone wrong by up to -2.2 or +1.2 stops; highlights are compressed, not clipped."""
    stops = amount * float(rng.choice((_LEAST_EXPOSURE_EV, _MOST_EXPOSURE_EV))) * float(rng.uniform(0.75, 1))
    light = linear(_CODES) * np.float32(2**stops)
    over = np.maximum(light - _KNEE, 0)
    pressed = _KNEE + (1 - _KNEE) * (1 - np.exp(-over / (1 - _KNEE)))
    table = encoded(np.where(light > _KNEE, pressed, light) if stops > 0 else light)
    return np.asarray(cv2.LUT(image_bgr, table), np.uint8)


def white_balance(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Automatic white balance that has drifted, along warm and cold or along green and magenta."""
    warm, green = rng.uniform(-1, 1, 2)
    warm += math.copysign(0.4, warm)
    gains = np.exp2(amount * np.array([-0.38 * warm, 0.16 * green, 0.38 * warm]))
    gains /= gains @ (0.0722, 0.7152, 0.2126)  # the brightness stays
    return np.asarray(cv2.LUT(image_bgr, encoded(linear(_CODES) * gains.astype(np.float32))), np.uint8)


def noise(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Sensor noise: shot noise (variance grows with light) and read-out noise, slightly smeared by demosaicing."""
    light = linear(image_bgr)
    start, end = _FULL_WELL
    full_well = start * (end / start) ** amount
    read = 3.0 / full_well * (1 + 2 * amount)
    grain = rng.standard_normal(light.shape, np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (3, 3), 0.55), np.float32) * 1.5  # 1.5: the spread that it had
    return encoded(light + grain * np.sqrt(light / full_well + read**2, dtype=np.float32))


EXPOSURE = photometric(
    "exposure", exposure, title="Exposure", caption="too short or too long", description="a wrong exposure"
)
WHITE_BALANCE = photometric(
    "white_balance", white_balance, title="White balance", caption="drifted", description="a wrong white balance"
)
NOISE = photometric("noise", noise, title="Sensor noise", caption="as at dusk", description="sensor noise")
