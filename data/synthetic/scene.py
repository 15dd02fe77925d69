"""A strip of a rendered field: planned once, rendered tile by tile as an orthophoto with plant ids."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic.camera import FOOTPRINT_M, Pose, Sensor, encode, ground_to_image, photograph, px_per_m
from data.synthetic.layout import PX_PER_M, Layout, Plant, plan_layout
from data.synthetic.leaves import ALPHA, GLOSS, HEIGHT, SLOPE_X, SLOPE_Y
from data.synthetic.light import SHADOW_REACH_PX, draw_light, illuminate
from data.synthetic.plants import Sprite, grow
from data.synthetic.soil import Soil

MIN_VISIBLE = 0.35
"""A plant is annotated if at least this share of its own pixels is visible in the image."""

MIN_SIDE_PX = 10.0
"""A plant is annotated if the shorter side of its box is at least this long, image pixels."""

FIELDS_PER_SEED = 10_000
"""Field seeds that belong to each seed of a dataset or a drive; a drive uses the last of them."""

_TILE_ROWS = 1024
_HALO = SHADOW_REACH_PX + 8
_KEPT_TILES = 3
_KEPT_SPRITES = 160

Ids = NDArray[np.int32]
Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class View:
    """One image of a field and its labels.

    A plant is listed if at least `MIN_VISIBLE` of its own pixels are visible (neither under other plants nor outside
    the frame) and the shorter side of its box is at least `MIN_SIDE_PX`.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        boxes_xyxy: float32 (N, 4), absolute pixels, continuous corners: the exact bounds of each plant's visible
            pixels.
        labels: int64 (N,) into `CLASS_NAMES`.
        plant_ids: int64 (N,), the same for a plant in all images of a `Field`.
        areas_px: int64 (N,), visible pixels of each plant.

    """

    image: Image
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    plant_ids: NDArray[np.int64]
    areas_px: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Tile:
    ortho: Image
    ids: Ids


class Field:
    """One strip of one field, determined by its seed.

    Example:
        >>> view = Field(7).view(1.5, seed=0)
        >>> view.image.shape, len(view.boxes_xyxy)

    Args:
        seed: of soil, light, crop stage, weeds and every leaf, 0 or more.
        length_m: along the driving direction; an image at x_m shows about 0.36 m of it.
        width_m: across.
        only: draw only the plants with these ids (`()`: bare ground); None draws all. Soil and light
            stay the same.

    Raises:
        ValueError: a negative seed, no length, or less width than an image shows.

    """

    def __init__(
        self, seed: int, *, length_m: float = 4.0, width_m: float = 0.86, only: Collection[int] | None = None
    ) -> None:
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        if length_m <= 0.0 or width_m < FOOTPRINT_M:
            raise ValueError(f"a strip must be at least {FOOTPRINT_M} m wide, got {length_m} x {width_m} m")
        self.seed, self.length_m, self.width_m = seed, length_m, width_m
        self.layout: Layout = plan_layout((seed, 1), length_m, width_m)
        self._rows, self._cols = math.ceil(length_m * PX_PER_M), math.ceil(width_m * PX_PER_M)
        seedbed = tuple(row * PX_PER_M for row in self.layout.rows_m)
        self._soil = Soil((seed, 2), self._rows, self._cols, PX_PER_M, seedbed)
        rng = np.random.default_rng((seed, 3))
        self.light = draw_light(rng)
        self._white = tuple(float(v) for v in np.exp(rng.normal(0.0, 0.03, 3)))
        self._vignette = float(max(0.0, rng.uniform(-0.15, 0.28)))
        # From dark green (well nourished) to a yellowish one.
        yellow, bright = float(rng.normal(0.0, 0.14)), float(np.exp(rng.normal(0.0, 0.10)))
        self._tint = (bright * (1.0 - 0.5 * yellow), bright, bright * (1.0 + yellow))
        self._noise = float(rng.uniform(0.03, 0.11))
        shown = self.layout.plants if only is None else [p for p in self.layout.plants if p.plant_id in only]
        # Taller plants cover lower ones.
        self._plants = sorted(shown, key=lambda plant: (plant.radius_px, plant.plant_id))
        self._labels = {plant.plant_id: plant.label for plant in self._plants}
        self._own_px: dict[int, int] = {}
        self._sprites: OrderedDict[int, Sprite] = OrderedDict()
        self._tiles: OrderedDict[int, _Tile] = OrderedDict()
        self._exposure = self._meter()

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of images of this field: its name, light, crop stage and soil."""
        return {
            "field": f"field_{self.seed:06d}",
            "light": self.light.kind,
            "stage": self.layout.stage,
            "soil": self._soil.kind.name,
        }

    def px_per_m(self, size_hw: tuple[int, int] = (480, 640)) -> float:
        """Scale of a level image, pixels per metre of ground."""
        return px_per_m(size_hw)

    def view(
        self,
        x_m: float,
        *,
        size_hw: tuple[int, int] = (480, 640),
        seed: int,
        speed_m_s: float = 0.0,
        pose: Pose | None = None,
        exposure_s: float = 0.002,
    ) -> View:
        """Take an image with its centre `x_m` metres along the strip.

        Args:
            x_m: 0..length_m; beyond the ends the ground is mirrored.
            size_hw: of the image; its width always covers about 0.48 m.
            seed: of the camera's jitter, exposure and noise.
            speed_m_s: driving speed, towards the top of the image; blurs the image.
            pose: of the camera; None draws a slight tilt, height and offset. Its `x_m` is
                replaced by the argument.
            exposure_s: time the shutter is open.

        Returns:
            The image with its labels.

        """
        rng = np.random.default_rng((self.seed, 4, seed))
        if pose is None:
            spare_m = max(0.0, self.width_m - 1.15 * FOOTPRINT_M)
            pose = Pose(
                x_m,
                0.5 * self.width_m + float(rng.uniform(-0.5, 0.5)) * spare_m,
                float(rng.uniform(0.93, 1.07)),
                *(float(np.clip(rng.normal(0.0, spread), -0.06, 0.06)) for spread in (0.022, 0.016, 0.025)),
            )
            jitter = float(np.exp(rng.normal(0.0, 0.13)))
        else:
            pose = Pose(x_m, pose.y_m, pose.height, pose.pitch, pose.roll, pose.yaw)
            jitter = 1.0
        to_image = ground_to_image(pose, size_hw)
        ortho, ids, first_row = self._seen(to_image, size_hw)
        # Orthophoto (column, row) to ground (x along, y across), metres.
        to_ground = np.array(
            [[0.0, 1.0 / PX_PER_M, first_row / PX_PER_M], [1.0 / PX_PER_M, 0.0, 0.0], [0.0, 0.0, 1.0]]
        )
        sensor = Sensor(
            exposure=self._exposure * jitter,
            white=(self._white[0], self._white[1], self._white[2]),
            vignette=self._vignette,
            noise=self._noise,
            blur_px=speed_m_s * exposure_s * px_per_m(size_hw),
        )
        matrix = to_image @ to_ground
        matrix /= matrix[2, 2]
        image, plants = photograph(ortho, ids, matrix, size_hw, sensor, rng)
        return self._annotate(image, plants, matrix, first_row)

    def _annotate(self, image: Image, plants: Ids, matrix: NDArray[np.float64], first_row: int) -> View:
        """Boxes of the plants that are visible enough."""
        boxes, labels, kept, areas = [], [], [], []
        rows, cols = np.nonzero(plants)
        values = plants[rows, cols]
        places = {plant.plant_id: plant for plant in self._plants}
        for plant_id in np.unique(values):
            mine = values == plant_id
            y, x = rows[mine], cols[mine]
            box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
            plant = places[int(plant_id)]
            column, row = plant.xy_px
            # From the homography's local scale: how many image pixels the whole plant would fill.
            depth = float(matrix[2] @ (column, row - first_row, 1.0))
            whole = self._own_px[int(plant_id)] * abs(float(np.linalg.det(matrix))) / depth**3
            if len(x) < MIN_VISIBLE * whole or min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE_PX:
                continue
            boxes.append(box)
            labels.append(plant.label)
            kept.append(int(plant_id))
            areas.append(len(x))
        return View(
            image,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(labels, np.int64),
            np.array(kept, np.int64),
            np.array(areas, np.int64),
        )

    def _seen(self, to_image: NDArray[np.float64], size_hw: tuple[int, int]) -> tuple[Image, Ids, int]:
        """The rows of orthophoto that an image needs, with ids, and the first of those rows."""
        height, width = size_hw
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64).T
        ground = np.linalg.inv(to_image) @ corners
        along = ground[0] / ground[2] * PX_PER_M
        first = int(np.clip(along.min() - 4, 0, self._rows - 1))
        last = int(np.clip(along.max() + 5, first + 1, self._rows))
        tiles = range(first // _TILE_ROWS, (last - 1) // _TILE_ROWS + 1)
        parts = [(self._tile(index), index * _TILE_ROWS) for index in tiles]
        cuts = [np.s_[max(0, first - start) : min(_TILE_ROWS, last - start)] for _, start in parts]
        ortho = np.concatenate([tile.ortho[cut] for (tile, _), cut in zip(parts, cuts, strict=True)])
        ids = np.concatenate([tile.ids[cut] for (tile, _), cut in zip(parts, cuts, strict=True)])
        return ortho, ids, first

    def _tile(self, index: int) -> _Tile:
        if index in self._tiles:
            self._tiles.move_to_end(index)
            return self._tiles[index]
        tile = self._render(index * _TILE_ROWS, min(self._rows, (index + 1) * _TILE_ROWS))
        self._tiles[index] = tile
        while len(self._tiles) > _KEPT_TILES:
            self._tiles.popitem(last=False)
        return tile

    def _sprite(self, plant: Plant) -> Sprite:
        if plant.plant_id not in self._sprites:
            seed = (self.seed, 5, plant.plant_id)
            self._sprites[plant.plant_id] = grow(plant.label, plant.stage, plant.radius_px, seed, self._tint)
            self._own_px[plant.plant_id] = self._sprites[plant.plant_id].own_px
            while len(self._sprites) > _KEPT_SPRITES:
                self._sprites.popitem(last=False)
        return self._sprites[plant.plant_id]

    def _render(self, first: int, last: int) -> _Tile:
        """Render rows `first`..`last` with the plants that reach or shade them from outside."""
        top, bottom = first - _HALO, last + _HALO
        albedo, height = self._soil.render(top, bottom)
        slope_x = np.asarray(cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=0.125), np.float32)
        slope_y = np.asarray(cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=0.125), np.float32)
        gloss = np.zeros_like(height)
        leafy = np.zeros_like(height)
        ids = np.zeros(height.shape, np.int32)
        rows, cols = height.shape
        ground = cv2.blur(height, (41, 41))
        for plant in self._plants:
            column, row = (round(v) for v in plant.xy_px)
            if not top - 1.3 * plant.radius_px - 8 < row < bottom + 1.3 * plant.radius_px + 8:
                continue
            sprite = self._sprite(plant)
            half = len(sprite.own) // 2
            y, x = row - top - half, column - half
            y0, y1, x0, x1 = max(0, y), min(rows, y + 2 * half), max(0, x), min(cols, x + 2 * half)
            if y0 >= y1 or x0 >= x1:
                continue
            layers = sprite.layers[y0 - y : y1 - y, x0 - x : x1 - x]
            region = np.s_[y0:y1, x0:x1]
            alpha = layers[..., ALPHA]
            rest = 1.0 - alpha
            centre = (min(max(row - top, 0), rows - 1), min(max(column, 0), cols - 1))
            albedo[region] *= rest[..., None]
            albedo[region] += layers[..., :3]
            for target, channel in ((slope_x, SLOPE_X), (slope_y, SLOPE_Y), (gloss, GLOSS), (leafy, ALPHA)):
                target[region] = target[region] * rest + layers[..., channel]
            raised = layers[..., HEIGHT] + alpha * ground[centre]
            height[region] = np.maximum(height[region], height[region] * rest + raised)
            ids[region][sprite.own[y0 - y : y1 - y, x0 - x : x1 - x]] = plant.plant_id
        inner = np.s_[_HALO : _HALO + last - first]
        slopes = (slope_x[inner], slope_y[inner])
        light = illuminate(albedo[inner], height, slopes, gloss[inner], leafy[inner], self.light, _HALO)
        return _Tile(encode(light), ids[inner].copy())

    def _meter(self) -> float:
        """The exposure that shows bare ground of this field as a medium grey, as a camera's metering does."""
        light, colour = self.light, self._soil.mean_colour
        sun = math.sin(light.elevation)
        back = [c * (s * sun * 0.9 + a * 0.9) for c, s, a in zip(colour, light.sun, light.sky, strict=True)]
        level = 0.114 * back[0] + 0.587 * back[1] + 0.299 * back[2]
        # Half-way only: dark ground stays darker than pale ground.
        return float(0.185 / level**0.55 / 0.145**0.45)
