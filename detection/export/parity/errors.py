"""How far the tensors of two networks are apart, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NOISE = 1e-3
"""The share of a channel's spread that its error may be (root mean square over all positions): -60 dB. Two float32
implementations differ by about 1e-5 of it, a network that sees other pixels by more than 1e-2, however little it has
learned and however near its scores are to each other."""

_ROUNDING = 4e-6
"""Of the largest value, in addition: a channel that is the same everywhere has no spread, but is rounded."""


@dataclass
class _Sums:
    """Of one tensor, by channel."""

    count: int = 0
    value: NDArray[np.float64] | float = 0.0
    square: NDArray[np.float64] | float = 0.0
    error_square: NDArray[np.float64] | float = 0.0
    largest: NDArray[np.float64] | float = 0.0


@dataclass
class NetworkError:
    """The error of a file's network against PyTorch's, over all images compared.

    Attributes:
        images: compared.
        max_score: largest difference of a score, of all positions and classes.
        max_box_px: largest distance of a corner, of the positions whose score lets them take part.

    """

    images: int = 0
    max_score: float = 0.0
    max_box_px: float = 0.0
    _sums: dict[str, _Sums] = field(default_factory=dict)

    def widen(
        self,
        scores: NDArray[np.float32],
        own_scores: NDArray[np.float32],
        boxes_xyxy: NDArray[np.float32],
        own_boxes_xyxy: NDArray[np.float32],
    ) -> None:
        """Compare the scores of all positions and the boxes of those that may take part."""
        largest = np.abs(scores - own_scores).max(initial=0.0), np.abs(boxes_xyxy - own_boxes_xyxy).max(initial=0.0)
        # what is no number is farther off than any
        score, box = (float(one) if np.isfinite(one) else float("inf") for one in largest)
        self.max_score, self.max_box_px = max(self.max_score, score), max(self.max_box_px, box)

    def add(self, name: str, right: NDArray[np.float32], found: NDArray[np.float32]) -> None:
        """Compare a tensor (..., channels) of one image."""
        sums = self._sums.setdefault(name, _Sums())
        values = right.reshape(-1, right.shape[-1]).astype(np.float64)
        error = found.reshape(values.shape).astype(np.float64) - values
        sums.count += len(values)
        sums.value = sums.value + values.sum(axis=0)
        sums.square = sums.square + np.square(values).sum(axis=0)
        sums.error_square = sums.error_square + np.square(error).sum(axis=0)
        sums.largest = np.maximum(sums.largest, np.abs(values).max(axis=0, initial=0.0))

    def include(self, other: NetworkError, *, with_noise: bool) -> None:
        """Add the error of one more image; without its noise for an image that is to be left out there."""
        self.images += 1
        self.max_score, self.max_box_px = max(self.max_score, other.max_score), max(self.max_box_px, other.max_box_px)
        for name, one in other._sums.items() if with_noise else ():
            own = self._sums.setdefault(name, _Sums())
            own.count += one.count
            own.value, own.square = own.value + one.value, own.square + one.square
            own.error_square = own.error_square + one.error_square
            own.largest = np.maximum(own.largest, one.largest)

    def noise(self) -> tuple[float, str]:
        """The largest error of a channel in shares of what is allowed (1: just allowed), and the tensor's name."""
        worst, where = 0.0, ""
        for name, sums in self._sums.items():
            if not sums.count:
                continue
            spread = np.sqrt(np.maximum(sums.square / sums.count - np.square(sums.value / sums.count), 0))
            allowed = NOISE * spread + _ROUNDING * np.asarray(sums.largest) + 1e-12
            ratio = np.sqrt(sums.error_square / sums.count) / allowed
            largest = float(np.max(ratio)) if np.isfinite(ratio).all() else float("inf")
            if largest > worst:
                worst, where = largest, name
        return worst, where
