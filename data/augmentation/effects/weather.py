"""Weather: haze, dust in the air, rain, wet soil."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import photometric
from data.augmentation.effects.linear import FloatArray, along, cloud, encoded, linear, mean_light, plants, ramp

_THICKEST = 0.6  # share of the scene's light that haze and dust take at most


def haze(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Mist: scattered light that takes contrast and colour, more towards one side.

    Koschmieder's law, I = J t + A (1 - t), in linear light; t is never below 0.4.
    """
    size_hw = image_bgr.shape[:2]
    thick = 0.75 + 0.25 * along(size_hw, float(rng.uniform(0, 2 * math.pi)))
    thick = thick * (0.85 + 0.15 * cloud(size_hw, 3, rng, octaves=2))
    return _through(image_bgr, 1 - _THICKEST * amount * thick, np.array([1.03, 1.0, 0.97]))


def dust(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A plume of dry earth whirled up, in billows from one side; transmission is never below 0.4."""
    height, width = image_bgr.shape[:2]
    billows = cloud((height, width), int(rng.integers(2, 5)), rng, octaves=4)
    side = along((height, width), float(rng.uniform(0, 2 * math.pi)))
    thick = np.clip(0.15 + 0.75 * ramp(0.55 * billows + 0.6 * side, 0.25, 1.0) + 0.1 * billows, 0, 1)
    earth = np.array([0.68, 1.0, 1.34]) * float(rng.uniform(0.85, 1.1))
    return _through(image_bgr, np.asarray(1 - _THICKEST * amount * thick, np.float32), earth)


def rain(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Falling drops as streaks, thin and translucent, near ones wide and out of focus; grey light."""
    height, width = image_bgr.shape[:2]
    side = min(height, width)
    lean = math.pi / 2 + float(rng.normal(0, 0.22))
    drops = np.zeros((height, width), np.float32)
    # far, middle, near: how many in a square of 512, length, thickness (1/512 of the side), brightness
    for count, long, thick, bright in ((420, 9, 0.8, 0.13), (150, 20, 1.1, 0.12), (28, 46, 2.6, 0.07)):
        layer = np.zeros((height, width), np.float32)
        number = round(count * (0.3 + 0.7 * amount) * height * width / side**2)
        starts = rng.uniform((-0.1, -0.1), (1.1, 1.1), (number, 2)) * (width, height)
        lengths = long * side / 512 * rng.uniform(0.6, 1.4, number)
        angles = lean + rng.normal(0, 0.035, number)
        ends = starts + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        for start, end, shine in zip(starts, ends, rng.uniform(0.4, 1, number), strict=True):
            points = [[round(16 * v) for v in point] for point in (start.tolist(), end.tolist())]
            cv2.line(layer, points[0], points[1], float(shine), 1, cv2.LINE_AA, 4)
        soft = max(0.45, thick * side / 512)
        # A blurred line of one pixel loses brightness in proportion to its width; half of it is restored.
        drops += bright * (1 + 1.2 * soft) * np.asarray(cv2.GaussianBlur(layer, (0, 0), soft), np.float32)
    light = linear(image_bgr)
    grey = mean_light(light)
    dull = light + 0.3 * amount * (grey - light)  # an overcast sky: less colour, less light, less blackness
    dull = dull * (1 - 0.25 * amount) + 0.02 * amount
    shine = np.minimum(drops * (0.5 + 0.7 * amount), 0.5)[..., None] * np.array([1.0, 0.97, 0.93], np.float32)
    return encoded(np.asarray(dull * (1 - 0.4 * shine) + shine, np.float32))


def wet_soil(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Soil after rain: darker and richer in patches with soft edges, with small glints; leaves stay as they are."""
    height, width = image_bgr.shape[:2]
    _, colourful, bright = cv2.split(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2HSV).astype(np.float32))
    blue, _, red = cv2.split(image_bgr)
    # Bare earth is brown to grey: neither leaf nor red fruit nor bright sky.
    warm = red.astype(np.float32) - blue
    grey = 1 - ramp(np.asarray(colourful, np.float32), 130, 175)
    lit = ramp(np.asarray(bright, np.float32), 225, 250)
    earth = (1 - plants(image_bgr)) * grey * ramp(warm, -25, 0) * (1 - lit)
    field = cloud((height, width), int(rng.integers(3, 6)), rng)
    dry = float(np.quantile(field, 0.55 * (1 - amount)))
    wet = earth * ramp(field, dry - 0.12, dry + 0.06)
    wet = np.asarray(cv2.GaussianBlur(wet, (0, 0), 0.8), np.float32)[..., None]
    light = linear(image_bgr)
    # Water between the grains lets light in deeper: what returns is darker and more saturated.
    darker = light * (1 - (0.3 + 0.25 * amount))
    mean = mean_light(darker)
    darker = mean + (1 + 0.3 * amount) * (darker - mean)
    glints = _glints(image_bgr, rng)[..., None] * (0.1 + 0.25 * amount)
    return encoded(np.asarray(light * (1 - wet) + wet * (darker + glints), np.float32))


def _glints(image_bgr: NDArray[np.uint8], rng: np.random.Generator) -> FloatArray:
    """Where films of water mirror the sky: a few of the crests that are already the brightest."""
    grey = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), np.float32)
    crest = np.asarray(cv2.GaussianBlur(grey, (0, 0), 0.9) - cv2.GaussianBlur(grey, (0, 0), 2.5), np.float32)
    crest *= ramp(cloud((grey.shape[0], grey.shape[1]), 14, rng, octaves=2), 0.45, 0.8)
    spread = max(float(crest.std()), 1.0)
    return ramp(crest, 2.0 * spread, 5.0 * spread)


def _through(image_bgr: NDArray[np.uint8], transmission: FloatArray, tint: NDArray[np.float64]) -> NDArray[np.uint8]:
    light = linear(image_bgr)
    # The air is lit as the field is, and the camera is exposed for the field: a dark photo gets no white mist.
    airlight = tint * min(max(3.0 * float(light.mean()), 0.15), 0.6)
    t = transmission[..., None].astype(np.float32)
    return encoded(light * t + airlight.astype(np.float32) * (1 - t))


WET_SOIL = photometric("wet_soil", wet_soil, title="Wet soil", caption="after rain", description="soil after rain")
HAZE = photometric("haze", haze, title="Haze", caption="mist before the lens", description="mist")
DUST = photometric("dust", dust, title="Dust", caption="dry earth in the air", description="dust in the air")
RAIN = photometric("rain", rain, title="Rain", caption="falling drops, grey light", description="falling rain")
