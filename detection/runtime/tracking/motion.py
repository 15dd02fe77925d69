"""How far the ground moved in the image since the last frame: measured in the images, or from odometry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Frame

Shift = tuple[float, float]
"""(x, y) in pixels of the camera's image: what stood at p now stands at p + shift."""

Direction = Literal["down", "up", "left", "right"]
_DIRECTIONS: dict[str, Shift] = {"down": (0.0, 1.0), "up": (0.0, -1.0), "left": (-1.0, 0.0), "right": (1.0, 0.0)}


class Motion(Protocol):
    """Measures the ground's shift from frame to frame of one camera."""

    def shift(self, frame: Frame) -> Shift | None:
        """The shift since the frame of the last call; None where it is unknown, as for the first frame."""


def seconds_between(earlier: Frame, later: Frame) -> float:
    """Seconds between two images, by the stream's own clock where both have it and it runs forward."""
    if earlier.stream_s is not None and later.stream_s is not None and later.stream_s > earlier.stream_s:
        return later.stream_s - earlier.stream_s
    return max(0.0, (later.captured_ns - earlier.captured_ns) / 1e9)


class OdometryMotion:
    """The shift from the machine's odometry, for a camera that looks straight down.

        PlantTracker(class_names, thresholds, OdometryMotion(lambda: odometer.speed_m_s, pixels_per_metre=2400))

    Args:
        speed_m_s: driving speed, negative when reversing; a number, or a function called at each frame.
        pixels_per_metre: scale of the image on the ground.
        direction: where the ground goes in the image when the machine drives forwards.

    Raises:
        ValueError: a scale that is not above 0, or an unknown direction.

    """

    def __init__(
        self,
        speed_m_s: float | Callable[[], float],
        pixels_per_metre: float,
        direction: Direction = "down",
    ) -> None:
        if not (math.isfinite(pixels_per_metre) and pixels_per_metre > 0):
            raise ValueError(f"pixels per metre must be above 0, got {pixels_per_metre}")
        if direction not in _DIRECTIONS:
            raise ValueError(f"direction must be one of {', '.join(_DIRECTIONS)}, got {direction!r}")
        self._speed_m_s = speed_m_s if callable(speed_m_s) else lambda: speed_m_s
        self._pixels_per_metre = pixels_per_metre
        self._towards = _DIRECTIONS[direction]
        self._last: Frame | None = None

    def shift(self, frame: Frame) -> Shift | None:
        """Speed times time; None for the first frame and where the speed is not a number."""
        last, self._last = self._last, frame
        speed_m_s = float(self._speed_m_s())
        if last is None or not math.isfinite(speed_m_s):
            return None
        moved_px = speed_m_s * seconds_between(last, frame) * self._pixels_per_metre
        return self._towards[0] * moved_px, self._towards[1] * moved_px


_SIDE_PX = 160  # of the small image's longer side: a third of a millisecond, and good to a third of its pixel
_OVERLAP = 0.2  # of each side that two images must share to be compared
_MIN_RESPONSE = 0.35  # of phase correlation at the forecast, for a valid measurement (docs/design/tracking.md)
_MIN_RESPONSE_ANYWHERE = 0.5  # the same where there is no forecast
_MIN_CONTRAST = 2.0  # standard deviation in grey levels; below it an image shows nothing: night, a covered lens


class ImageMotion:
    """The shift seen in the images, by phase correlation of small copies of them.

    The two images are aligned by the last speed (or by odometry, where it is given), so that only ground that
    both show is compared; the rest of the shift is measured to a fraction of a pixel
    (C. D. Kuglin and D. C. Hines, "The phase correlation image alignment method", 1975; OpenCV's
    `phaseCorrelate`). All of the ground contributes, so leaves in the wind do not matter. Where the speed is not
    known, all overlaps are tried. Where the ground is not recognised the forecast is used, for up to `coast_s`.

    Args:
        odometry: forecasts the shift; None: the last measured speed does.
        coast_s: seconds for which a forecast is used without a measurement.

    """

    def __init__(self, odometry: Motion | None = None, coast_s: float = 1.0) -> None:
        self._odometry = odometry
        self._coast_s = coast_s
        self._last: Frame | None = None
        self._small: NDArray[np.float32] | None = None
        self._speed_px_s: Shift | None = None
        self._unmeasured_s = 0.0
        self._windows: dict[tuple[int, int], NDArray[np.float32]] = {}

    def shift(self, frame: Frame) -> Shift | None:
        """The measured shift, else the forecast; None for the first frame and where there is neither."""
        last, self._last = self._last, frame
        before, self._small = self._small, small_grey(frame.image)
        from_odometry = self._odometry.shift(frame) if self._odometry is not None else None
        if last is None or before is None or last.image.shape != frame.image.shape:
            self._speed_px_s = None
            return None
        seconds = seconds_between(last, frame)
        forecast = from_odometry
        if seconds > self._coast_s and from_odometry is None:
            self._speed_px_s = None  # it may have changed meanwhile
        if forecast is None and self._speed_px_s is not None:
            forecast = self._speed_px_s[0] * seconds, self._speed_px_s[1] * seconds
        scale = frame.image.shape[1] / self._small.shape[1]
        seen = self._measured(before, self._small, forecast, scale)
        if seen is not None:
            self._unmeasured_s = 0.0
            if seconds > 0:
                self._speed_px_s = seen[0] / seconds, seen[1] / seconds
            return seen
        self._unmeasured_s += seconds
        if self._unmeasured_s > self._coast_s and from_odometry is None:
            self._speed_px_s = None
            return None
        return forecast

    def _measured(
        self, before: NDArray[np.float32], now: NDArray[np.float32], forecast: Shift | None, scale: float
    ) -> Shift | None:
        """The measured shift in pixels of the camera's image; None where the ground is not recognised."""
        if min(float(before.std()), float(now.std())) < _MIN_CONTRAST:
            return None
        if forecast is not None:
            shift, response = self._correlate(before, now, (forecast[0] / scale, forecast[1] / scale))
            if response > _MIN_RESPONSE:
                return shift[0] * scale, shift[1] * scale
        # Not as forecast: try every overlap, with a higher threshold, because chance has many tries here.
        height, width = now.shape
        guesses = [(0.0, 0.0)]
        for part in (1 / 3, 2 / 3):
            guesses += [(x * part * width, y * part * height) for x, y in _DIRECTIONS.values()]
        best, best_response = None, _MIN_RESPONSE_ANYWHERE
        for guess in guesses:
            shift, response = self._correlate(before, now, guess)
            # Once more where it says, now with all of the ground that both show.
            if response > _MIN_RESPONSE / 2 and max(abs(shift[0] - guess[0]), abs(shift[1] - guess[1])) > 4:
                shift, response = self._correlate(before, now, shift)
            if response > best_response:
                best, best_response = (shift[0] * scale, shift[1] * scale), response
        return best

    def _correlate(self, before: NDArray[np.float32], now: NDArray[np.float32], guess: Shift) -> tuple[Shift, float]:
        """Phase correlation of the ground that both show if `guess` holds: the shift and its response."""
        height, width = now.shape
        x, y = round(guess[0]), round(guess[1])
        size = _dft_size(width - abs(x)), _dft_size(height - abs(y))
        if size[0] < _OVERLAP * width or size[1] < _OVERLAP * height:
            return guess, 0.0
        # Copies: phaseCorrelate lays its window over what it is given, in place.
        earlier = before[max(0, -y) :, max(0, -x) :][: size[1], : size[0]].copy()
        later = now[max(0, y) :, max(0, x) :][: size[1], : size[0]].copy()
        if size not in self._windows:
            if len(self._windows) > 64:  # every overlap has its own; a season has many speeds
                self._windows.clear()
            self._windows[size] = np.asarray(cv2.createHanningWindow(size, cv2.CV_32F), np.float32)
        (rest_x, rest_y), response = cv2.phaseCorrelate(earlier, later, self._windows[size])
        return (x + rest_x, y + rest_y), response


def _dft_size(longest: int) -> int:
    """The largest even length up to `longest` that is quick to transform; 0 where there is none.

    OpenCV pads any other length, and is half a pixel off where the padded one is odd.
    """
    for length in range(longest - longest % 2, 0, -2):
        if cv2.getOptimalDFTSize(length) == length:
            return length
    return 0


def small_grey(image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image's green channel, its longer side 160 pixels (or its own where it is smaller): float32 (h, w)."""
    height, width = image_bgr.shape[:2]
    shrink = max(1.0, max(height, width) / _SIDE_PX)
    # Every n-th pixel, at least two of them for each that is left: a tenth of a full resize's time.
    step = max(1, int(shrink / 2))
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    small = cv2.resize(np.ascontiguousarray(image_bgr[::step, ::step, 1]), size, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
