"""`PlayTime`: the time stamp of each image in a recording of a camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detection.runtime.detections import Frame

DEFAULT_FPS = 25.0
"""Frame rate of a source that states none."""


class PlayTime:
    """Time stamps of one camera's images, so that a recording plays in real time.

    A live camera's images are where they were grabbed, so one that was dropped leaves a gap and not
    a hurry. A recording's are where its own time stamps say, or by number and rate.

    Args:
        live: whether time goes on without us (`Source.live`).
        fps: images a second, as the source states it; None for `DEFAULT_FPS`.

    """

    def __init__(self, *, live: bool, fps: float | None) -> None:
        self._live = live
        self._step_s = 1.0 / (fps or DEFAULT_FPS)
        self._offset_s: float | None = None
        self._last_s = 0.0

    def seconds(self, frame: Frame) -> float:
        """Seconds from the first image to this one; always more than those of the one before."""
        raw_s = self._raw_s(frame)
        if self._offset_s is None:
            self._offset_s = -raw_s
            return 0.0
        if raw_s + self._offset_s <= self._last_s:  # the stream began anew
            self._offset_s = self._last_s + self._step_s - raw_s
        self._last_s = raw_s + self._offset_s
        return self._last_s

    def _raw_s(self, frame: Frame) -> float:
        if self._live:
            return frame.captured_ns / 1e9
        if frame.stream_s is not None:
            return frame.stream_s
        return frame.index * self._step_s
