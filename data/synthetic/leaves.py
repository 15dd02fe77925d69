"""One leaf: its outline, drawn with veins, relief and soft edges onto a plant's canvas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Colour = tuple[float, float, float]

# Small plants are drawn this much finer than the orthophoto and averaged down; on larger ones
# anti-aliased polygons alone show no steps, at a quarter of the cost.
_SUPERSAMPLING = 2
_LARGE_PX = 30.0

# The channels of a canvas, premultiplied by alpha: albedo B, G, R; height above ground; the slope of the
# surface along columns and rows; gloss; alpha itself.
CHANNELS = 8
HEIGHT, SLOPE_X, SLOPE_Y, GLOSS, ALPHA = 3, 4, 5, 6, 7

_GRAIN_SIZE = 1024
_SUBPIXEL_BITS = 5


def _grain() -> FloatArray:
    """A fixed texture for the mottling of leaves, read at random offsets: float32, about -1..1."""
    rng = np.random.default_rng(20)
    total = np.zeros((_GRAIN_SIZE, _GRAIN_SIZE), np.float32)
    for cell, weight in ((2, 0.35), (6, 0.4), (20, 0.5)):
        side = _GRAIN_SIZE // cell + 1
        coarse = rng.standard_normal((side, side), dtype=np.float32)
        total += weight * cv2.resize(coarse, (_GRAIN_SIZE, _GRAIN_SIZE), interpolation=cv2.INTER_CUBIC)
    return total


_GRAIN = _grain()


@dataclass(frozen=True)
class LeafAppearance:
    """The surface of a leaf: its colours and relief.

    Attributes:
        colour: linear reflectance (B, G, R), 0..1, like `midrib` and `stalk`.
        midrib: colour of the midrib.
        stalk: colour of the petiole.
        midrib_px: width of the midrib in orthophoto pixels.
        midrib_strength: how far the midrib's colour replaces the leaf's, 0..1.
        veins: number of side veins along the blade.
        vein: strength of the side veins, 0..1.
        vein_slant: how far the side veins lean towards the tip.
        fold: how steeply the halves rise from the midrib.
        wave: how much the margin undulates.
        waves: undulations along the blade.
        rise: slope at the base of the arch from base to tip.
        droop: curvature of that arch.
        mealy: whitish bloom, 0..1.
        gloss: strength of highlights, 0..1.
        mottle: contrast of the fine texture.

    """

    colour: Colour
    midrib: Colour
    stalk: Colour
    midrib_px: float = 0.8
    midrib_strength: float = 0.6
    veins: float = 5.0
    vein: float = 0.12
    vein_slant: float = 0.5
    fold: float = 0.15
    wave: float = 0.0
    waves: float = 4.0
    rise: float = 0.35
    droop: float = 0.4
    mealy: float = 0.0
    gloss: float = 0.15
    mottle: float = 0.07

    def tinted(self, rng: np.random.Generator, spread: float = 0.08) -> LeafAppearance:
        """The same appearance with the random variation of one leaf."""
        bright = float(np.exp(rng.normal(0.0, spread)))
        warm = float(rng.normal(0.0, 0.5 * spread))
        blue, green, red = self.colour
        return replace(self, colour=(blue * bright, green * bright, red * bright * (1.0 + warm)))


@dataclass(frozen=True)
class Leaf:
    """A leaf at its place on the plant. Lengths are orthophoto pixels, angles radians.

    Attributes:
        azimuth: direction from base to tip, about the plant's centre.
        length: from base to tip, petiole included.
        width: of the blade at its widest.
        appearance: colours and relief.
        half_width: positions along the blade (0..1) -> half widths as fractions of `width`; None: the leaf is
            feathery, and `strands` gives its shape.
        strands: polylines float32 (n, 2) in leaf coordinates (along, across).
        strand_px: thickness of the strands.
        stalk: share of `length` that is petiole.
        stalk_px: thickness of the petiole.
        base_offset: distance of the base from the plant's centre.
        base_height: height of the base above the ground.
        bend: sideways curvature of the leaf.

    """

    azimuth: float
    length: float
    width: float
    appearance: LeafAppearance
    half_width: Callable[[FloatArray], FloatArray] | None = None
    strands: tuple[FloatArray, ...] = ()
    strand_px: float = 1.2
    stalk: float = 0.0
    stalk_px: float = 1.2
    base_offset: float = 0.0
    base_height: float = 1.0
    bend: float = 0.0


def _outline(leaf: Leaf, steps: int) -> FloatArray:
    """The leaf's rim in leaf coordinates (along, across), pixels: float32 (2 * steps, 2)."""
    assert leaf.half_width is not None
    along = np.linspace(0.0, 1.0, steps, dtype=np.float32)
    blade = np.clip((along - leaf.stalk) / (1.0 - leaf.stalk), 0.0, 1.0)
    half = leaf.half_width(blade) * leaf.width
    if leaf.stalk > 0.0:
        half = np.maximum(half, np.where(along < leaf.stalk + 0.06, 0.5 * leaf.stalk_px, 0.0))
    upper = np.stack([along * leaf.length, half], axis=1)
    lower = np.stack([along * leaf.length, -half], axis=1)[::-1]
    return np.concatenate([upper, lower]).astype(np.float32)


class Canvas:
    """The image of one plant, drawn leaf by leaf, lower leaves first.

    Args:
        radius_px: how far leaves may reach from the centre, orthophoto pixels.
        rng: for the mottling.
        fine: the plant has parts thinner than a pixel.

    """

    def __init__(self, radius_px: float, rng: np.random.Generator, *, fine: bool = False) -> None:
        self.half_px = math.ceil(radius_px) + 3
        self._factor = _SUPERSAMPLING if fine or radius_px < _LARGE_PX else 1
        side = 2 * self.half_px * self._factor
        self._layers = np.zeros((side, side, CHANNELS), np.float32)
        self._rng = rng
        self._drawn = False

    def draw(self, leaf: Leaf) -> None:
        """Draw `leaf` over the others, slightly darkening those close below it."""
        scale = float(self._factor)
        cos, sin = math.cos(leaf.azimuth), math.sin(leaf.azimuth)
        rotation = np.array([[cos, sin], [-sin, cos]], np.float32)
        centre = self.half_px + leaf.base_offset * np.array([cos, sin], np.float32)
        rims = [_outline(leaf, 72)] if leaf.half_width is not None else list(leaf.strands)
        paths = []
        for rim in rims:
            local = rim.copy()
            local[:, 1] += leaf.bend * leaf.length * (local[:, 0] / leaf.length) ** 2
            paths.append((local @ rotation + centre) * scale - 0.5)
        extent = np.concatenate(paths)
        margin = 2 + 2 * self._factor
        side = len(self._layers)
        left, top = (max(0, int(v)) for v in np.floor(extent.min(axis=0)) - margin)
        right, bottom = (min(side, int(v)) for v in np.ceil(extent.max(axis=0)) + margin + 1)
        if right - left < 2 or bottom - top < 2:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        fixed = [
            np.round((path - (left, top)) * (1 << _SUBPIXEL_BITS)).astype(np.int32).reshape(-1, 1, 2)
            for path in paths
        ]
        if leaf.half_width is not None:
            cv2.fillPoly(mask, fixed, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        else:
            thickness = max(1, round(leaf.strand_px * scale))
            cv2.polylines(mask, fixed, False, 255, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
            # The first strand is the rachis, sturdier than its leaflets.
            cv2.polylines(mask, fixed[:1], False, 255, thickness + 1, cv2.LINE_AA, _SUBPIXEL_BITS)
        alpha = mask.astype(np.float32) / 255.0
        region = self._layers[top:bottom, left:right]
        # Little light gets under a leaf.
        if self._drawn:
            reach = (2 * self._factor + 1, 2 * self._factor + 1)
            under = cv2.blur(cv2.blur(mask, reach), reach).astype(np.float32)
            region[..., :3] *= (1.0 - (0.42 / 255.0) * under)[..., None]
        self._drawn = True
        surface = self._surface(leaf, rotation, centre * scale, (top, left), alpha.shape)
        surface *= alpha[..., None]
        region *= (1.0 - alpha)[..., None]
        region += surface

    def _surface(
        self,
        leaf: Leaf,
        rotation: FloatArray,
        base_xy: FloatArray,
        origin: tuple[int, int],
        shape: tuple[int, ...],
    ) -> FloatArray:
        """Colour, height, slope and gloss of the leaf at every pixel of a window: (h, w, CHANNELS)."""
        appearance, scale = leaf.appearance, float(self._factor)
        rows, cols = shape
        x = (np.arange(cols, dtype=np.float32) + (origin[1] + 0.5 - base_xy[0]))[None, :] / scale
        y = (np.arange(rows, dtype=np.float32) + (origin[0] + 0.5 - base_xy[1]))[:, None] / scale
        along = (x * rotation[0, 0] + y * rotation[0, 1]) / np.float32(leaf.length)
        across_px = x * rotation[1, 0] + y * rotation[1, 1] - leaf.bend * leaf.length * along * along
        blade = (along - leaf.stalk) / (1.0 - leaf.stalk)
        side = np.clip(across_px / (0.5 * leaf.width), -1.4, 1.4)
        apart = np.abs(side)
        at = self._rng.integers(0, _GRAIN_SIZE // 3, 2)
        grain = _GRAIN[at[0] : at[0] + rows, at[1] : at[1] + cols]
        if grain.shape != (rows, cols):
            grain = np.resize(grain, (rows, cols))

        position = (
            blade * appearance.veins - appearance.vein_slant * appearance.veins * apart * leaf.width / leaf.length
        )
        nerve = np.exp(-(((position - np.round(position)) / 0.13) ** 2)) * np.clip(1.25 - apart, 0.0, 1.0)
        rib_px = min(appearance.midrib_px, 0.075 * leaf.width + 0.2) * np.clip(1.15 - 0.85 * blade, 0.25, 1.0)
        rib = np.exp(-((across_px / rib_px) ** 2)) * appearance.midrib_strength * np.clip(1.3 - blade, 0.0, 1.0)

        wobble = np.sin((2.0 * math.pi * appearance.waves) * blade + (2.0 + 3.0 * np.sign(side)))
        height = leaf.length * (appearance.rise * along - appearance.droop * along * along)
        height += leaf.width * (appearance.fold * apart + appearance.wave * wobble * side * side)
        height += 0.25 * grain - (0.5 * appearance.vein * leaf.width * 0.12) * nerve - 0.5 * rib

        tone = 1.0 + appearance.mottle * grain + 0.16 * (blade - 0.5) - appearance.vein * (0.5 - nerve)
        out = np.empty((rows, cols, CHANNELS), np.float32)
        stalk = np.clip(0.5 - (along - leaf.stalk) * leaf.length, 0.0, 1.0) if leaf.stalk > 0 else None
        bloom = appearance.mealy * np.clip(0.75 + 0.5 * grain - 0.5 * blade, 0.0, 1.0) if appearance.mealy else None
        for channel in range(3):
            value = appearance.colour[channel] * tone
            value += (appearance.midrib[channel] - value) * rib
            if bloom is not None:
                value += (0.34 - value) * bloom
            if stalk is not None:
                value += (appearance.stalk[channel] * (1.0 + 0.1 * grain) - value) * stalk
            out[..., channel] = value
        out[..., HEIGHT] = np.maximum(leaf.base_height + height, 0.6)
        # Limited, so that steep slopes just outside the leaf do not tilt its rim.
        for axis, (dx, dy) in ((SLOPE_X, (1, 0)), (SLOPE_Y, (0, 1))):
            slope = cv2.Sobel(height, cv2.CV_32F, dx, dy, ksize=1, scale=0.5 * scale)
            np.clip(slope, -1.3, 1.3, out=out[..., axis])
        out[..., GLOSS] = appearance.gloss
        out[..., ALPHA] = 1.0
        return out

    def finish(self) -> FloatArray:
        """The plant at orthophoto resolution, premultiplied: float32 (2 * half_px, 2 * half_px, CHANNELS)."""
        side, factor = 2 * self.half_px, self._factor
        if factor == 1:
            return self._layers
        total = np.zeros((side, side, CHANNELS), np.float32)
        for row in range(factor):
            for column in range(factor):
                total += self._layers[row::factor, column::factor]
        return total / np.float32(factor * factor)
