"""The light of the day: its colour, low sun, hard shadows, flare."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import Draw, Effect, EffectSettings, photometric
from data.augmentation.effects.linear import FloatArray, along, cloud, encoded, linear, plants, ramp
from data.augmentation.sample import Sample

_WARMEST_K, _NEUTRAL_K, _COLDEST_K = 3800, 6500, 12000


class _RecolourByView(Protocol):
    def __call__(
        self, image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator, *, on_ground: bool
    ) -> NDArray[np.uint8]: ...


def daylight(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The colour of daylight, from the warm hour (3,800 K) to deep blue shade (12,000 K)."""
    from albumentations.augmentations.pixel.functional import planckian_jitter

    end = _WARMEST_K if rng.random() < 0.5 else _COLDEST_K
    # Even steps in 1/K look even.
    kelvin = round(1 / (1 / _NEUTRAL_K + amount * (1 / end - 1 / _NEUTRAL_K)))
    # Its tables hold gains of linear light; applied to sRGB codes they would turn leaves orange.
    rgb = cv2.cvtColor(linear(image_bgr), cv2.COLOR_BGR2RGB)
    tinted = planckian_jitter(rgb, kelvin, "blackbody")
    return encoded(np.asarray(cv2.cvtColor(tinted, cv2.COLOR_RGB2BGR), np.float32))


def low_sun(
    image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator, *, on_ground: bool = True
) -> NDArray[np.uint8]:
    """A sun at a few degrees: warm light, long cool shadows behind plants, clods of earth in relief.

    Without `on_ground` (an oblique view) a leaf has no ground right behind it to cast a shadow on: only the warm
    light and its relief are drawn.
    """
    height, width = image_bgr.shape[:2]
    azimuth = float(rng.uniform(0, 2 * math.pi))
    light = linear(image_bgr)
    side = min(height, width)
    shadow = np.zeros((height, width), np.float32)
    if on_ground:
        # Whole leaves only: every green grain of soil would cast a scratch of shadow.
        leaves = plants(image_bgr)
        whole = cv2.morphologyEx(cv2.GaussianBlur(leaves, (0, 0), 0.003 * side), cv2.MORPH_OPEN, np.ones((3, 3)))
        shadow = _cast(ramp(np.asarray(whole, np.float32), 0.4, 0.8), azimuth, (0.02 + 0.08 * amount) * side)
        shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 0.7 + 0.003 * side), np.float32) * (1 - leaves)
    # Grazing light brightens what faces the sun and darkens what does not.
    grey = np.asarray(cv2.GaussianBlur(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), (0, 0), 0.8), np.float32)
    relief = (grey - _moved(grey, 2 * math.cos(azimuth), 2 * math.sin(azimuth))) / 255
    slope = 1 + np.clip((3.0 if on_ground else 1.5) * amount * relief, -0.45, 0.7)
    fall_off = 1 + 0.45 * amount * (0.5 - along((height, width), azimuth))
    sun = np.array([1 - 0.5 * amount, 1 - 0.12 * amount, 1 + 0.25 * amount], np.float32)
    sky = np.array([0.42, 0.33, 0.27], np.float32) * (1 - 0.35 * amount)
    dark = (shadow * min(1.0, 0.35 + amount))[..., None]
    return encoded(light * (sun * (1 - dark) + sky * dark) * (slope * fall_off)[..., None])


def hard_shadow(
    image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator, *, on_ground: bool = True
) -> NDArray[np.uint8]:
    """The shadow of the machine (an edge, bars and a wheel) or of leaves above, lit by the blue sky alone.

    Without `on_ground` (an oblique view) the sky in the image gets no shadow.
    """
    height, width = image_bgr.shape[:2]
    kind = rng.choice(3, p=(0.4, 0.35, 0.25))
    if kind == 0:
        shade = _edge((height, width), rng)
    elif kind == 1:
        shade = _machine_frame((height, width), rng)
    else:
        shade = _canopy((height, width), rng)
    if not on_ground:
        shade = shade * (1 - _sky(image_bgr))
    left = 0.65 - 0.45 * amount  # of the light; a clear sky alone gives about a fifth of it
    sky = np.array([1.22, 1.0, 0.86], np.float32) * left
    shade = shade[..., None]
    return encoded(linear(image_bgr) * (1 - shade + sky * shade))


def sun_flare(
    image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator, *, on_ground: bool = True
) -> NDArray[np.uint8]:
    """The sun at the border: a warm veil that takes contrast, and faint ghosts across the image.

    Without `on_ground` (an oblique view) it is in the upper half.
    """
    # All of it is soft: half the size is enough.
    height, width = ((length + 1) // 2 for length in image_bgr.shape[:2])
    side = min(height, width)
    angle = float(rng.uniform(0 if on_ground else math.pi, 2 * math.pi))
    out = float(rng.uniform(0.46, 0.64))
    sun_xy = (width * (0.5 + out * math.cos(angle)), height * (0.5 + out * math.sin(angle)))
    y, x = np.ogrid[0:height, 0:width]
    far = np.hypot(x - sun_xy[0], y - sun_xy[1]).astype(np.float32) / side
    glow = 0.5 * np.exp(-((far / 0.16) ** 2)) + 0.35 * np.exp(-far / 0.28) + 0.05
    veil = glow[..., None].astype(np.float32) * np.array([0.72, 0.9, 1.0], np.float32)
    ghosts = np.zeros_like(veil)
    for _ in range(int(rng.integers(3, 6))):
        share = float(rng.uniform(0.5, 1.75))  # 1 is the middle of the image
        centre = (
            sun_xy[0] + (width / 2 - sun_xy[0]) * share,
            sun_xy[1] + (height / 2 - sun_xy[1]) * share,
        )
        radius = float(rng.uniform(0.015, 0.075)) * side
        colour = (rng.dirichlet((2.0, 2.5, 2.5)) * rng.uniform(0.1, 0.26)).astype(np.float32)
        corners = [
            (round(16 * (centre[0] + radius * math.cos(k * math.pi / 3 + angle))),
             round(16 * (centre[1] + radius * math.sin(k * math.pi / 3 + angle))))
            for k in range(6)
        ]  # fmt: skip
        layer = np.zeros((height, width), np.float32)
        cv2.fillConvexPoly(layer, np.array(corners, np.int32), 1.0, cv2.LINE_AA, 4)
        ghosts += np.asarray(cv2.GaussianBlur(layer, (0, 0), 1 + 0.08 * radius))[..., None] * colour
    # 0.75: under the brightest veil a quarter of the scene's contrast is left.
    added = np.minimum(amount * (1.1 * veil + ghosts), 0.75)
    added = np.asarray(cv2.resize(added, image_bgr.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    light = linear(image_bgr)
    return encoded(np.asarray(light * (1 - 0.55 * added) + added * (1 - 0.35 * light), np.float32))


def _moved(field: FloatArray, dx: float, dy: float) -> FloatArray:
    """The field moved by (dx, dy) pixels; its edge is repeated."""
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    size = (field.shape[1], field.shape[0])
    return np.asarray(cv2.warpAffine(field, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _cast(heights: FloatArray, azimuth: float, reach_px: float) -> FloatArray:
    """The shadow that a mask casts along `azimuth`, thinning out to its end."""
    shade, step = heights, 1.0
    while step < reach_px:  # each pass doubles the length
        shade = np.maximum(shade, 0.9 * _moved(shade, step * math.cos(azimuth), step * math.sin(azimuth)))
        step *= 2
    return shade


def _sky(image_bgr: NDArray[np.uint8]) -> FloatArray:
    """Bright and blue or white, over more than a few pixels: float32 (H, W), 0 to 1."""
    blue, _, red = cv2.split(cv2.GaussianBlur(image_bgr, (0, 0), 0.7).astype(np.float32))
    return ramp(np.asarray(blue, np.float32), 150, 190) * ramp(np.asarray(blue - red, np.float32), -24, -6)


def _edge(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    angle = float(rng.uniform(0, 2 * math.pi))
    at = float(rng.uniform(0.3, 0.7))
    blur = float(rng.uniform(0.002, 0.006))  # the sun is half a degree wide, which softens the edge
    return ramp(along(size_hw, angle), at - blur, at + blur)


def _machine_frame(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    height, width = size_hw
    shade = np.zeros(size_hw, np.float32)
    side = min(size_hw)
    lean = float(rng.uniform(-0.5, 0.5)) + float(rng.choice((0.0, math.pi / 2)))
    for turn in (0.0, 0.0, math.pi / 2)[: int(rng.integers(2, 4))]:
        middle = rng.uniform(0.15, 0.85, 2) * (width, height)
        step = np.array([math.cos(lean + turn), math.sin(lean + turn)]) * (width + height)
        ends = np.rint([middle - step, middle + step]).astype(int)
        thick = max(2, round(float(rng.uniform(0.03, 0.12)) * side))
        cv2.line(shade, ends[0].tolist(), ends[1].tolist(), 1.0, thick, cv2.LINE_8)
    if rng.random() < 0.5:
        # A wheel, from the side of the image: cameras are not mounted behind one.
        at = (float(rng.choice((0.0, 1.0))), float(rng.uniform(0, 1)))
        centre = [round(at[0] * width), round(at[1] * height)]
        axes = np.rint(rng.uniform((0.15, 0.3), (0.25, 0.5)) * side).astype(int).tolist()
        cv2.ellipse(shade, centre, axes, math.degrees(lean), 0, 360, 1.0, cv2.FILLED, cv2.LINE_8)
    return np.asarray(cv2.GaussianBlur(shade, (0, 0), max(0.6, 0.002 * side)), np.float32)


def _canopy(size_hw: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    field = cloud(size_hw, int(rng.integers(5, 10)), rng, octaves=4)
    at = float(np.quantile(field, rng.uniform(0.4, 0.65)))
    return 1 - ramp(field, at - 0.04, at + 0.04)


def _by_view(recolour: _RecolourByView, sample: Sample, draw: Draw[EffectSettings]) -> Sample:
    return sample._replace(image_bgr=recolour(sample.image_bgr, draw.amount, draw.rng, on_ground=draw.on_ground))


DAYLIGHT = photometric(
    "daylight",
    daylight,
    title="Daylight",
    caption="the warm hour, or blue shade",
    description="warmer or colder daylight",
)
LOW_SUN = Effect(
    "low_sun",
    "photometric",
    partial(_by_view, low_sun),
    title="Low sun",
    caption="warm light, long cool shadows",
    description="a low sun",
)
HARD_SHADOW = Effect(
    "hard_shadow",
    "photometric",
    partial(_by_view, hard_shadow),
    title="Hard shadow",
    caption="of the machine, or of leaves above",
    description="the machine's or leaves' shadow",
)
SUN_FLARE = Effect(
    "sun_flare",
    "photometric",
    partial(_by_view, sun_flare),
    title="Sun flare",
    caption="the sun shines into the lens",
    description="the sun shining into the lens",
)
