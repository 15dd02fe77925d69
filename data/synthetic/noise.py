"""Smooth random textures that join without a seam, however a long strip is divided into tiles."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.float32]


class Lattice:
    """Smooth noise over a whole strip: random values on a coarse lattice, interpolated on demand.

    Only the lattice is stored, so a strip of any length costs little memory and each tile of it is
    interpolated from the same values as its neighbour.

    Args:
        seed: of the values.
        rows, cols: size of the strip in pixels.
        cell_px: distance between lattice points, pixels; the size of the features.

    """

    def __init__(self, seed: tuple[int, ...], rows: int, cols: int, cell_px: int) -> None:
        self.cell_px = cell_px
        self.cols = cols
        shape = (rows // cell_px + 6, cols // cell_px + 6)
        self._values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)

    def rows(self, first: int, last: int) -> Texture:
        """The noise of rows `first`..`last` (not included); `first` may be negative. float32, spread about 0.6."""
        cell = self.cell_px
        # One lattice row of margin on either side, for the support of the cubic interpolation.
        low = first // cell - 1
        high = -(-last // cell) + 2
        index = np.clip(np.arange(low + 2, high + 2), 0, len(self._values) - 1)
        patch = self._values[index]
        size = (patch.shape[1] * cell, patch.shape[0] * cell)
        smooth = cv2.resize(patch, size, interpolation=cv2.INTER_CUBIC)
        start = first - low * cell
        return np.ascontiguousarray(smooth[start : start + last - first, cell : cell + self.cols])


def speckle(seed: tuple[int, ...], shape: tuple[int, int]) -> Texture:
    """White noise, one draw per pixel: float32 of `shape`, mean 0, standard deviation 1."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
