"""`UncertainImages`: which images a person should label, because the detector was uncertain about a box."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.streaming.slices import WHOLE_FRAME, FrameSlicer, merged_detections, slice_frame

_THUMB = (32, 32)
_ALIKE = 3.0
"""Mean difference of two thumbnails in grey levels: less on a standing machine, more after a metre of field."""


@dataclass(frozen=True, eq=False)
class LowThresholdDetections:
    """What a detector finds in an image when boxes below its thresholds are reported too.

    Attributes:
        detections: with scores down to `band` below the threshold of their class.
        class_names: of its labels.
        uncertain: how many of them have scores within `band` of their threshold.

    """

    detections: Detections
    class_names: tuple[str, ...]
    uncertain: int


def detect_uncertain(
    detector: Detector, image_bgr: NDArray[np.uint8], band: float, slicer: FrameSlicer = WHOLE_FRAME
) -> LowThresholdDetections:
    """Run the detector on an image once more, with thresholds lower by `band`.

    Args:
        detector: the one in use; it is not changed.
        image_bgr: uint8 (H, W, 3).
        band: 0 to 1.
        slicer: of the camera.

    """
    thresholds = np.asarray(detector.score_thresholds, np.float32)
    slices = slice_frame(detector, image_bgr, slicer)
    found = Detections.empty()
    if slices.prepared:
        raw = detector.infer_all([prepared.pixels for prepared in slices.prepared])
        found = merged_detections(detector, raw, 0, slices, np.maximum(thresholds - band, 0))
    near = np.abs(found.scores - thresholds[found.labels]) < band
    return LowThresholdDetections(found, detector.class_names, int(near.sum()))


@dataclass(eq=False)
class _Window:
    start_ns: int
    newest: Frame
    best: Frame | None = None
    best_value: float = 0.0


class UncertainImages:
    """Selects at most one image per camera and `every_s` seconds.

    Of each such window it is the image with the most and nearest boxes just above their threshold; where none
    has one, the window's last image, which `detect_uncertain` may find to hold boxes just below it. Images like the
    one before (the machine stands) are left out.

    `offer` is for the pipeline's thread, `take` for the one that saves.

    Args:
        band: maximum distance of an uncertain score from its class's threshold, 0 to 1.
        every_s: length of a window in seconds.

    """

    def __init__(self, band: float, every_s: float) -> None:
        self.band = band
        self._every_ns = int(every_s * 1e9)
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}
        self._ready: dict[str, Frame] = {}
        self._thumbs: dict[str, NDArray[np.float32]] = {}

    def offer(self, frame: Frame, detections: Detections, score_thresholds: Sequence[float]) -> None:
        """Consider an image; takes microseconds."""
        above = detections.scores - np.asarray(score_thresholds, np.float32)[detections.labels]
        value = float(np.maximum(1 - above / self.band, 0).sum())
        with self._lock:
            window = self._windows.get(frame.camera)
            if window is None:
                window = self._windows[frame.camera] = _Window(frame.captured_ns, frame)
            elif frame.captured_ns - window.start_ns >= self._every_ns:
                self._ready[frame.camera] = window.best or window.newest
                window = self._windows[frame.camera] = _Window(frame.captured_ns, frame)
            window.newest = frame
            if value > window.best_value:
                window.best, window.best_value = frame, value

    def take(self) -> Frame | None:
        """An image to be checked, or None."""
        with self._lock:
            return self._ready.pop(next(iter(self._ready))) if self._ready else None

    def is_new(self, frame: Frame) -> bool:
        """Whether it differs from the last one of its camera for which `remember` was called."""
        last = self._thumbs.get(frame.camera)
        return last is None or float(np.abs(_thumb(frame) - last).mean()) >= _ALIKE

    def remember(self, frame: Frame) -> None:
        """Later images must differ from this one."""
        self._thumbs[frame.camera] = _thumb(frame)


def _thumb(frame: Frame) -> NDArray[np.float32]:
    small = cv2.resize(frame.image, _THUMB, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
