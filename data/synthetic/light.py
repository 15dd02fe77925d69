"""Sun, sky and shadow: turns the colour, height and slope of a field into the light that it reflects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

LIGHTS = ("sun", "overcast", "low_sun")

SHADOW_REACH_PX = 84
"""The longest shadow, orthophoto pixels: how much a tile needs to know beyond its edges."""


@dataclass(frozen=True)
class Light:
    """The light of one field. Colours are linear (B, G, R).

    `azimuth` is the direction to the sun, radians in the orthophoto (columns, rows); `elevation` in radians.
    """

    kind: str
    azimuth: float
    elevation: float
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]


def draw_light(rng: np.random.Generator) -> Light:
    """One day's light: hard sun, low sun or an overcast sky."""
    kind = LIGHTS[int(rng.choice(3, p=(0.45, 0.35, 0.20)))]
    azimuth = float(rng.uniform(0.0, 2.0 * math.pi))
    tint = float(rng.normal(0.0, 0.035))
    if kind == "sun":
        elevation, power, sky_power, warm = rng.uniform(42.0, 64.0), 1.0, 0.29, rng.uniform(0.98, 1.04)
    elif kind == "low_sun":
        elevation, power, sky_power, warm = rng.uniform(24.0, 36.0), 1.2, 0.33, rng.uniform(1.04, 1.12)
    else:
        elevation, power, sky_power, warm = rng.uniform(45.0, 75.0), 0.26, 0.80, rng.uniform(0.97, 1.0)
    # The blue that a low sun lacks is scattered into the shadows by a clear sky.
    cool = 1.0 if kind == "overcast" else 1.08
    sun = (power / warm * (1.0 - tint), power, power * warm * (1.0 + tint))
    sky = (sky_power * cool * (1.0 - tint), sky_power, sky_power / cool * (1.0 + tint))
    return Light(kind, azimuth, math.radians(float(elevation)), sun, sky)


def _shifted(field: FloatArray, dx: float, dy: float) -> FloatArray:
    """The field as seen from (dx, dy) pixels away."""
    matrix = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (field.shape[1], field.shape[0])
    moved = cv2.warpAffine(field, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def cast_shadow(height: FloatArray, light: Light) -> FloatArray:
    """The share of sunlight that reaches each pixel: float32 as `height`, 0 (in shadow) .. 1.

    Marches from every pixel towards the sun over the height field, at half resolution, and takes how far
    the ray passes below the highest obstacle on its way; the edge softens with distance.
    """
    small = cv2.resize(height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    half = np.asarray(small, np.float32) * np.float32(0.5)
    slope = math.tan(light.elevation)
    highest = float(half.max()) - float(np.percentile(half[::8, ::8], 2.0))
    reach = min(0.5 * SHADOW_REACH_PX, highest / slope)
    blocked = np.zeros_like(half)
    cos, sin = math.cos(light.azimuth), math.sin(light.azimuth)
    step = 0.8
    while step < reach:
        over = _shifted(half, step * cos, step * sin)
        over -= half
        over -= np.float32(slope * step + 0.25)
        over *= np.float32(1.0 / (0.55 + 0.055 * step))
        np.maximum(blocked, over, out=blocked)
        step += 0.9 + 0.02 * step
    spread = 0.6 if light.kind != "overcast" else 2.2
    soft = cv2.GaussianBlur(1.0 - np.clip(blocked, 0.0, 1.0), (0, 0), spread)
    full = cv2.resize(soft, (height.shape[1], height.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32)


def sky_view(height: FloatArray) -> FloatArray:
    """How much of the sky each pixel sees: float32 as `height`, about 0.35 (a crevice) .. 1.1 (a crest)."""
    half = cv2.resize(height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    near = cv2.blur(half, (9, 9), borderType=cv2.BORDER_REPLICATE) - half
    wide = cv2.blur(cv2.blur(half, (25, 25), borderType=cv2.BORDER_REPLICATE), (25, 25)) - half
    seen = 1.0 - 0.095 * near - 0.022 * wide
    seen = np.clip(seen, 0.35, 1.12)
    full = cv2.resize(seen, (height.shape[1], height.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.float32)


def illuminate(
    albedo: FloatArray,
    height: FloatArray,
    slope_xy: tuple[FloatArray, FloatArray],
    gloss: FloatArray,
    leafy: FloatArray,
    light: Light,
    halo: int,
) -> FloatArray:
    """The light reflected towards a camera above.

    Args:
        albedo: (h, w, 3) float32 linear B, G, R, 0..1.
        height: (h + 2 * halo, w) float32, pixels: its halo casts shadows into the tile.
        slope_xy: rise of the surface along columns and along rows, (h, w) float32 each.
        gloss: (h, w) float32, strength of the highlight, 0..1.
        leafy: (h, w) float32, 1 on leaves, which also transmit light.
        light: the light of the field.
        halo: additional rows of `height`, above and below.

    Returns:
        (h, w, 3) float32, linear, not yet exposed.

    """
    slope_x, slope_y = slope_xy
    inner = np.s_[halo : height.shape[0] - halo]
    sun_x = math.cos(light.elevation) * math.cos(light.azimuth)
    sun_y = math.cos(light.elevation) * math.sin(light.azimuth)
    sun_z = math.sin(light.elevation)
    steep = 1.0 / np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
    facing = (sun_z - sun_x * slope_x - sun_y * slope_y) * steep
    direct = np.maximum(facing, 0.0) * (1.0 - 0.3 * leafy) + (0.3 * sun_z) * leafy
    lit = cast_shadow(height, light)[inner]
    direct *= lit
    sky = sky_view(height)[inner]
    sky *= 0.6 + 0.4 * steep
    norm = math.sqrt(sun_x**2 + sun_y**2 + (sun_z + 1.0) ** 2)
    mirror = ((sun_z + 1.0) - sun_x * slope_x - sun_y * slope_y) * (steep / norm)
    np.clip(mirror, 0.0, 1.0, out=mirror)
    for _ in range(3):
        mirror *= mirror
    shine = gloss * (mirror * mirror * mirror) * lit * 0.22
    # A waxy leaf reflects a little of an open sky everywhere.
    haze = gloss * 0.035
    out = np.empty_like(albedo)
    for channel in range(3):
        glow = light.sun[channel] * direct
        glow += light.sky[channel] * sky
        np.multiply(albedo[..., channel], glow, out=out[..., channel])
        out[..., channel] += light.sun[channel] * shine + light.sky[channel] * haze
    return out
