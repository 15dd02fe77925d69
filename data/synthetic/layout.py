"""Where the plants of a strip grow: crop in rows, weeds in patches, with one field's mix of species and ages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data.synthetic.plants import CLASS_NAMES, STAGES

PX_PER_M = 1000.0
"""Scale of the orthophoto, pixels per metre: a pixel is a millimetre."""

# Radii in mm by stage (index into STAGES): the reach of the longest leaf, least and most.
_RADII_MM = (
    ((16.0, 23.0), (26.0, 44.0), (44.0, 66.0)),  # sugar_beet
    ((13.0, 18.0), (21.0, 36.0), (36.0, 56.0)),  # fat_hen
    ((15.0, 20.0), (22.0, 35.0), (35.0, 54.0)),  # chamomile
    ((13.0, 18.0), (22.0, 38.0), (38.0, 60.0)),  # thistle
    ((17.0, 25.0), (27.0, 44.0), (44.0, 66.0)),  # foxtail
)


@dataclass(frozen=True)
class Plant:
    """One plant at its place: `x_m` along the strip, `y_m` across it; `radius_px` in orthophoto pixels."""

    plant_id: int
    label: int
    stage: int
    x_m: float
    y_m: float
    radius_px: float

    @property
    def xy_px(self) -> tuple[float, float]:
        """Its centre in the orthophoto: column, row."""
        return self.y_m * PX_PER_M, self.x_m * PX_PER_M


@dataclass(frozen=True)
class Layout:
    """All plants of a strip, and the crop rows (metres across the strip)."""

    plants: tuple[Plant, ...]
    rows_m: tuple[float, ...]
    crop_stage: int

    @property
    def stage(self) -> str:
        """The crop's growth stage by name."""
        return STAGES[self.crop_stage]


class _Occupancy:
    """A grid of the plants placed so far, which keeps overlaps small."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
        self._cell_m = 0.16

    def fits(self, x_m: float, y_m: float, radius_m: float, closeness: float) -> bool:
        row, col = int(x_m // self._cell_m), int(y_m // self._cell_m)
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                for x, y, radius in self._cells.get((row + dr, col + dc), ()):
                    if math.hypot(x - x_m, y - y_m) < closeness * (radius + radius_m):
                        return False
        return True

    def add(self, x_m: float, y_m: float, radius_m: float) -> None:
        key = (int(x_m // self._cell_m), int(y_m // self._cell_m))
        self._cells.setdefault(key, []).append((x_m, y_m, radius_m))


def _radius_m(rng: np.random.Generator, label: int, stage: int) -> float:
    low, high = _RADII_MM[label][stage]
    return float(rng.uniform(low, high)) / 1000.0


def plan_layout(seed: tuple[int, ...], length_m: float, width_m: float) -> Layout:
    """Sow the crop in rows and scatter the weeds.

    Args:
        seed: of all randomness.
        length_m: of the strip.
        width_m: of the strip.

    """
    rng = np.random.default_rng(seed)
    crop_stage = int(rng.choice(3, p=(0.28, 0.42, 0.30)))
    spacing = float(rng.choice((0.45, 0.50)))
    first_row = 0.5 * width_m + rng.uniform(-0.5, 0.5) * spacing
    rows_m = tuple(first_row + k * spacing for k in range(-4, 5) if -0.05 < first_row + k * spacing < width_m + 0.05)
    occupancy = _Occupancy()
    plants: list[Plant] = []

    def place(label: int, stage: int, x_m: float, y_m: float, radius_m: float) -> None:
        occupancy.add(x_m, y_m, radius_m)
        plants.append(Plant(len(plants) + 1, label, stage, x_m, y_m, radius_m * PX_PER_M))

    in_row = float(rng.uniform(0.15, 0.20))
    for row in rows_m:
        x_m = float(rng.uniform(-0.1, in_row))
        while x_m < length_m + 0.1:
            radius = _radius_m(rng, 0, crop_stage)
            at = x_m + float(rng.normal(0.0, 0.010))
            if rng.random() > 0.07 and occupancy.fits(at, row, radius, 0.8):
                place(0, crop_stage, at, row + float(rng.normal(0.0, 0.006)), radius)
            x_m += in_row

    species = np.arange(1, len(CLASS_NAMES))
    mix = rng.dirichlet(np.full(len(species), 1.6))
    per_m2 = float(np.exp(rng.uniform(math.log(16.0), math.log(60.0))))
    ages = rng.dirichlet((0.6, 2.0, 1.6))
    # Weeds come in patches: a wavy density along and across the strip.
    waves = rng.uniform((0.4, 0.4, 0.0), (1.6, 1.6, 2.0 * math.pi), (len(species), 3))
    tries = int(per_m2 * (length_m + 0.2) * width_m * 1.5)
    for _ in range(tries):
        x_m, y_m = float(rng.uniform(-0.1, length_m + 0.1)), float(rng.uniform(0.0, width_m))
        which = int(rng.choice(len(species), p=mix))
        fx, fy, phase = waves[which]
        keep = 0.66 + 0.34 * math.sin(2.0 * math.pi * (fx * x_m + fy * y_m) + phase)
        label, stage = int(species[which]), int(rng.choice(3, p=ages))
        radius = _radius_m(rng, label, stage)
        if rng.random() < keep and occupancy.fits(x_m, y_m, radius, 0.86):
            place(label, stage, x_m, y_m, radius)
    return Layout(tuple(plants), rows_m, crop_stage)
