"""Bare ground: clods, crust, grain, moisture, stones and straw, as colour and height."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic.noise import Lattice, Texture, speckle

FloatArray = NDArray[np.float32]
Colour = tuple[float, float, float]

_Nearest = tuple[Texture, NDArray[np.int32], Texture]

_CELLS = (4, 8, 16, 36, 90, 220)


@dataclass(frozen=True)
class SoilKind:
    """A kind of ground.

    Attributes:
        name: for the images' attributes.
        colour: linear reflectance (B, G, R) when dry.
        clods: relief of the clods, pixels.
        fine: relief of crumbs and grain.
        crust: strength of a dried, cracked crust, 0..1.
        clod_px: size of the largest clods.
        stones: per square metre.
        straws: per square metre.

    """

    name: str
    colour: Colour
    clods: float
    fine: float
    crust: float
    clod_px: float
    stones: float
    straws: float


SOIL_KINDS = (
    SoilKind("loam", (0.085, 0.125, 0.175), 1.0, 1.0, 0.0, 34.0, 14.0, 14.0),
    SoilKind("clay", (0.100, 0.135, 0.170), 1.5, 0.8, 0.5, 60.0, 8.0, 8.0),
    SoilKind("sand", (0.170, 0.235, 0.300), 0.45, 0.8, 0.0, 26.0, 40.0, 10.0),
    SoilKind("humus", (0.045, 0.060, 0.078), 0.9, 1.2, 0.0, 28.0, 8.0, 26.0),
    SoilKind("silt", (0.125, 0.170, 0.215), 0.55, 0.6, 0.9, 46.0, 10.0, 12.0),
    SoilKind("red", (0.060, 0.095, 0.190), 1.1, 0.9, 0.2, 36.0, 22.0, 8.0),
)

_STONE_COLOURS = (
    (0.30, 0.33, 0.36),
    (0.17, 0.19, 0.21),
    (0.20, 0.26, 0.33),
    (0.48, 0.50, 0.52),
    (0.12, 0.16, 0.24),
)
_STRAW_COLOURS = ((0.20, 0.36, 0.46), (0.26, 0.38, 0.44), (0.12, 0.20, 0.27), (0.32, 0.45, 0.52))


class Soil:
    """The ground of one strip, rendered piece by piece.

    Args:
        seed: of all randomness.
        rows, cols: the strip in pixels of the orthophoto.
        px_per_m: its scale.
        seedbed_cols: columns of the crop rows, where the press wheels have crushed the clods.

    """

    def __init__(
        self, seed: tuple[int, ...], rows: int, cols: int, px_per_m: float, seedbed_cols: tuple[float, ...]
    ) -> None:
        rng = np.random.default_rng(seed)
        self.kind = SOIL_KINDS[int(rng.integers(len(SOIL_KINDS)))]
        self._seed = seed
        self._rows, self._cols = rows, cols
        self._layers = {cell: Lattice((*seed, cell), rows, cols, cell) for cell in _CELLS}
        self._damp = Lattice((*seed, 1), rows, cols, 150)
        self._warp = tuple(Lattice((*seed, 2, axis), rows, cols, 24) for axis in (0, 1))
        bright = float(np.exp(rng.normal(0.0, 0.14)))
        tint = float(rng.normal(0.0, 0.05))
        blue, green, red = self.kind.colour
        self._colour = (blue * bright * (1.0 - tint), green * bright, red * bright * (1.0 + tint))
        self._wetness = float(rng.uniform(0.05, 0.42))
        self._roughness = float(rng.uniform(0.75, 1.25))
        # Few large clods, more small ones, crumbs everywhere.
        self._lump_px = (self.kind.clod_px, 0.42 * self.kind.clod_px, 7.0)
        self._lumps = tuple(
            self._strewn(rng, cell, share) for cell, share in zip(self._lump_px, (0.45, 0.7, 0.9), strict=True)
        )
        area = rows * cols / px_per_m**2
        self._stones = self._scatter(rng, int(area * self.kind.stones * rng.uniform(0.4, 2.0)))
        self._stone_px = np.clip(2.2 * rng.pareto(1.7, len(self._stones)) + 2.2, 2.2, 22.0)
        self._straws = self._scatter(rng, int(area * self.kind.straws * rng.uniform(0.1, 2.6)))
        columns = np.arange(cols, dtype=np.float32)
        pressed = np.zeros(cols, np.float32)
        for at in seedbed_cols:
            pressed = np.maximum(pressed, np.exp(-(((columns - at) / (0.045 * px_per_m)) ** 2)))
        self._pressed = pressed

    @property
    def mean_colour(self) -> Colour:
        """Its mean reflectance, linear (B, G, R)."""
        dry = 1.0 - self._wetness
        return self._colour[0] * dry, self._colour[1] * dry, self._colour[2] * dry

    def _strewn(self, rng: np.random.Generator, cell: float, share: float) -> tuple[FloatArray, FloatArray]:
        """One lump in each cell of a grid: (n, 3) x, y and the grid line it belongs to, ordered; radii (n,)."""
        down, across = int(self._rows / cell) + 30, int(self._cols / cell) + 3
        y, x = np.mgrid[-14 : down - 14, -1 : across - 1]
        points = np.stack([x, y], axis=-1) + rng.uniform(0.05, 0.95, (down, across, 2))
        lines = np.repeat(y[:, :, None], 1, axis=2)
        radii = 0.5 * cell * rng.beta(1.3, 2.6, (down, across)) * 1.7
        radii *= rng.random((down, across)) < share
        placed = np.concatenate([points, lines], axis=-1).reshape(-1, 3) * cell
        return placed.astype(np.float32), radii.ravel().astype(np.float32)

    def _scatter(self, rng: np.random.Generator, count: int) -> FloatArray:
        return np.asarray(rng.uniform((0, 0), (self._cols, self._rows), (count, 2)), np.float32)

    def _nearest(self, layer: int, first: int, last: int, step: int) -> _Nearest:
        """For every pixel of rows first..last: the distance to the nearest lump of a layer, and its number.

        Computed at 1 / `step` of the resolution. The third array holds the lumps' radii by that number. All in
        pixels of the orthophoto.
        """
        points, radii = self._lumps[layer]
        margin = 2 * int(self._lump_px[layer]) + 2
        low, high = np.searchsorted(points[:, 2], (first - margin, last + margin))
        rows = -(-(last - first) // step)
        ground = np.full((rows + 2 * margin // step, -(-self._cols // step)), 255, np.uint8)
        column = np.clip((points[low:high, 0] / step).astype(np.int32), 0, ground.shape[1] - 1)
        row = np.clip(((points[low:high, 1] - (first - margin)) / step).astype(np.int32), 0, len(ground) - 1)
        ground[row, column] = 0
        away, nearest = cv2.distanceTransformWithLabels(ground, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
        radius = np.zeros(int(nearest.max()) + 1, np.float32)
        radius[nearest[row, column]] = radii[low:high]
        inner = np.s_[margin // step : margin // step + rows]
        return np.asarray(away[inner] * step, np.float32), np.asarray(nearest[inner], np.int32), radius

    def _lumps_of(self, layer: int, first: int, last: int, ragged: Texture) -> Texture:
        """Height of loose lumps of one size, each around its own point: float32, 0..its radius."""
        # For large ones half the resolution is enough.
        step = 2 if layer < 2 else 1
        away, nearest, radius = self._nearest(layer, first, last, step)
        size = radius[nearest]
        away *= 1.0 + 0.30 * ragged[::step, ::step]
        bulge = np.maximum(size * size - away * away, 0.0)
        if step == 1:
            # Crumbs are flatter than clods, otherwise their rims would look like pen strokes.
            return np.asarray(bulge / np.maximum(size, 1.0) * np.float32(0.8), np.float32)
        lumps = np.sqrt(bulge) * np.float32(0.85)
        shape = (self._cols, last - first)
        return np.asarray(cv2.resize(lumps, shape, interpolation=cv2.INTER_LINEAR), np.float32)

    def _crust(self, first: int, last: int) -> Texture:
        """Nearness to the cracks of a dried crust: float32, 0..1."""
        _, labels, _ = self._nearest(0, first, last, 1)
        edge = np.full(labels.shape, 255, np.uint8)
        edge[:, 1:][labels[:, 1:] != labels[:, :-1]] = 0
        edge[1:, :][labels[1:, :] != labels[:-1, :]] = 0
        inside = cv2.distanceTransform(edge, cv2.DIST_L2, 3)
        # Straight Voronoi edges look artificial: bend them.
        bend = np.float32(0.13 * self._lump_px[0])
        map_x = np.arange(self._cols, dtype=np.float32)[None, :] + bend * self._warp[0].rows(first, last)
        map_y = np.arange(last - first, dtype=np.float32)[:, None] + bend * self._warp[1].rows(first, last)
        inside = cv2.remap(inside, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(np.exp(-((inside / np.float32(1.3)) ** 2)), np.float32)

    def render(self, first: int, last: int) -> tuple[FloatArray, FloatArray]:
        """Rows `first`..`last`: albedo (h, w, 3) float32 linear B, G, R and height (h, w) float32, pixels."""
        kind, rough = self.kind, self._roughness
        noise = {cell: lattice.rows(first, last) for cell, lattice in self._layers.items()}
        patchy = np.clip(0.85 + 0.45 * noise[90], 0.15, 1.6)
        patchy *= (rough * (1.0 - 0.55 * self._pressed)).astype(np.float32)[None, :]
        height = (2.6 * kind.clods) * noise[36]
        height += (1.3 * kind.clods) * noise[16]
        height *= patchy
        height += 3.0 * noise[220] - (4.0 * self._pressed)[None, :]
        for layer, strength in enumerate((kind.clods, kind.clods, kind.fine)):
            lumps = self._lumps_of(layer, first, last, noise[(16, 8, 4)[layer]])
            lumps *= strength * (patchy if layer < 2 else rough)
            height += lumps
        height += (0.55 * kind.fine) * np.abs(noise[8])
        height += (0.55 * kind.fine * rough) * noise[4]
        grain = speckle((*self._seed, 3, first + 10_000), height.shape)
        height += (0.20 * kind.fine) * grain

        damp = 0.13 * self._damp.rows(first, last) - 0.016 * (height - 4.0)
        damp += np.float32(self._wetness)
        np.clip(damp, 0.0, 0.55, out=damp)
        tone = 0.08 * noise[16] + 0.08 * noise[4] + 0.095 * grain + 0.06 * noise[90] + 1.0
        tone *= 1.0 - damp
        if kind.crust > 0.0:
            crack = self._crust(first, last) * np.clip(0.5 + 1.1 * noise[90], 0.0, 1.3)
            height -= (4.0 * kind.crust) * crack
            tone *= 1.0 - (0.45 * kind.crust) * crack
        hue = 0.05 * noise[36] + 0.03 * noise[8]
        albedo = np.empty((*height.shape, 3), np.float32)
        albedo[..., 0] = self._colour[0] * tone * (1.0 - hue)
        albedo[..., 1] = self._colour[1] * tone
        albedo[..., 2] = self._colour[2] * tone * (1.0 + hue)
        np.clip(albedo, 0.008, 0.9, out=albedo)
        self._lay_stones(albedo, height, first)
        self._lay_straw(albedo, height, first)
        return albedo, height

    def _lay_stones(self, albedo: FloatArray, height: FloatArray, first: int) -> None:
        rows, cols = height.shape
        for index in np.flatnonzero(np.abs(self._stones[:, 1] - first - rows / 2) < rows / 2 + 30):
            rng = np.random.default_rng((*self._seed, 4, int(index)))
            radius, (x, y) = float(self._stone_px[index]), self._stones[index] - (0, first)
            reach = int(1.6 * radius) + 3
            left, right = max(0, int(x) - reach), min(cols, int(x) + reach + 1)
            top, bottom = max(0, int(y) - reach), min(rows, int(y) + reach + 1)
            if left >= right or top >= bottom:
                continue
            dx = (np.arange(left, right, dtype=np.float32) - x)[None, :]
            dy = (np.arange(top, bottom, dtype=np.float32) - y)[:, None]
            turn, flat = rng.uniform(0, math.pi), rng.uniform(0.6, 1.0)
            u = dx * math.cos(turn) + dy * math.sin(turn)
            v = (dy * math.cos(turn) - dx * math.sin(turn)) / flat
            angle = np.arctan2(v, u)
            phases = rng.uniform(0, 6.28, 3)
            rim = 1.0 + sum(0.10 / k * np.sin((k + 1) * angle + p) for k, p in enumerate(phases, start=1))
            share = np.sqrt(u * u + v * v) / (radius * rim)
            alpha = np.clip((1.0 - share) * radius + 0.5, 0.0, 1.0)
            dome = 0.75 * radius * np.sqrt(np.clip(1.0 - share**2.6, 0.0, 1.0)) * flat
            patch = height[top:bottom, left:right]
            patch += alpha * (0.35 * (float(patch.mean()) - patch) + dome)
            colour = np.array(_STONE_COLOURS[int(rng.integers(len(_STONE_COLOURS)))])
            colour *= rng.uniform(0.45, 0.95)
            colour = 0.72 * colour + 0.28 * np.array(self._colour)
            mottle = 1.0 + 0.10 * rng.standard_normal(alpha.shape, dtype=np.float32)
            target = albedo[top:bottom, left:right]
            target += (0.92 * alpha)[..., None] * (colour.astype(np.float32) * mottle[..., None] - target)

    def _lay_straw(self, albedo: FloatArray, height: FloatArray, first: int) -> None:
        rows, cols = height.shape
        for index in np.flatnonzero(np.abs(self._straws[:, 1] - first - rows / 2) < rows / 2 + 90):
            rng = np.random.default_rng((*self._seed, 5, int(index)))
            length = float(np.clip(12.0 + rng.exponential(26.0), 8.0, 130.0))
            turn, bend = rng.uniform(0, 2 * math.pi), rng.normal(0.0, 0.035)
            along = np.linspace(-0.5, 0.5, 7) * length
            across = bend * length * (4.0 * (along / length) ** 2)
            x, y = self._straws[index] - (0, first)
            path = np.stack(
                [
                    x + along * math.cos(turn) - across * math.sin(turn),
                    y + along * math.sin(turn) + across * math.cos(turn),
                ],
                axis=1,
            )
            low = np.maximum(np.floor(path.min(axis=0)).astype(int) - 5, 0)
            high = np.minimum(np.ceil(path.max(axis=0)).astype(int) + 6, (cols, rows))
            if (high - low).min() < 2:
                continue
            # Drawn four times finer, for widths between whole pixels.
            size = (high - low) * 4
            mask = np.zeros((int(size[1]), int(size[0])), np.uint8)
            fixed = np.round(((path - low) * 4) * 16).astype(np.int32).reshape(-1, 1, 2)
            thickness = int(rng.integers(4, 10))
            cv2.polylines(mask, [fixed], False, 255, thickness, cv2.LINE_AA, 4)
            small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            alpha = small.astype(np.float32) / 255.0
            region = np.s_[low[1] : high[1], low[0] : high[0]]
            colour = np.array(_STRAW_COLOURS[int(rng.integers(len(_STRAW_COLOURS)))]) * rng.uniform(0.35, 0.8)
            albedo[region] += alpha[..., None] * (colour.astype(np.float32) - albedo[region])
            top = float(np.percentile(height[region], 70)) + rng.uniform(1.0, 4.0)
            height[region] += alpha * (np.maximum(height[region], top) - height[region])
