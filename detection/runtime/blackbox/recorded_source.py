"""`RecordedSource`: the images of a recording, replayed at the times at which they were captured."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.blackbox.recording import RecordedFrame, Recording
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError


class PlaybackClock:
    """When each recorded image is due; shared by the cameras of a recording, so that they stay synchronous.

    Args:
        first_ns: `captured_ns` of the recording's earliest image.

    """

    def __init__(self, first_ns: int) -> None:
        self._first_ns = first_ns
        self._start_ns: int | None = None

    def due_ns(self, captured_ns: int) -> int:
        """When an image is due on the present monotonic clock, which starts with the first call."""
        if self._start_ns is None:
            self._start_ns = time.monotonic_ns()
        return self._start_ns + captured_ns - self._first_ns


class RecordedSource(Source):
    """One camera of a recording: every image with its own index.

    Args:
        recording: what to play.
        camera: which of its cameras.
        clock: shared by all cameras; None gives images as fast as they are taken.

    """

    live = False

    def __init__(self, recording: Recording, camera: str, clock: PlaybackClock | None) -> None:
        self.camera = camera
        self._folder = recording.folder
        self._frames = [frame for frame in recording.frames if frame.camera == camera]
        self._clock = clock
        self.length = len(self._frames)
        span_ns = self._frames[-1].captured_ns - self._frames[0].captured_ns
        self.fps = max(1, round((self.length - 1) / span_ns * 1e9)) if span_ns > 0 else None
        self.dropped = 0
        self.unreadable = 0
        self.ended = False
        self._next = 0
        self._decoded: Frame | None = None

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image once it is due; None where that is not within `timeout_s` seconds.

        `captured_ns` is when it was due, so a replay that falls behind shows in the images' age.

        Raises:
            SourceError: an image of the recording is missing or damaged.

        """
        if self.ended:
            return None
        recorded = self._frames[self._next]
        captured_ns = time.monotonic_ns() if self._clock is None else self._clock.due_ns(recorded.captured_ns)
        if self._decoded is None:  # while it is not due yet
            self._decoded = self._frame(recorded, captured_ns)
        wait_s = (captured_ns - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return None
        frame, self._decoded = self._decoded, None
        self._next += 1
        self.ended = self._next == self.length
        return frame

    def _frame(self, recorded: RecordedFrame, captured_ns: int) -> Frame:
        image = _read(self._folder / recorded.image)
        if image is None:
            self.ended = True
            raise SourceError(f"{self._folder / recorded.image}: missing or damaged; the replay ends here")
        return Frame(image, recorded.camera, recorded.frame, captured_ns, recorded.stream_s)

    def close(self) -> None:
        """No more images come."""
        self.ended = True


def open_recording(recording: Recording, *, as_fast: bool = False) -> list[RecordedSource]:
    """One source per camera of a recording.

    Args:
        recording: from `read_recording`.
        as_fast: without waiting between images.

    """
    clock = None if as_fast else PlaybackClock(min(frame.captured_ns for frame in recording.frames))
    return [RecordedSource(recording, camera, clock) for camera in recording.cameras]


def _read(path: Path) -> NDArray[np.uint8] | None:
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(image, np.uint8)
