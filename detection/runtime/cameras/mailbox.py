"""`Mailbox`: one slot between a camera's reader thread and its consumer; the newest frame wins."""

from __future__ import annotations

import threading

from detection.runtime.detections import Frame


class Mailbox:
    """One slot between a reader thread and a consumer: a new frame replaces one that was not taken.

    Attributes:
        dropped: how many frames were replaced.

    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self._closed = False
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Put a frame; one that was not taken is dropped and counted."""
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Put the error that ended the camera; a frame in the slot can still be taken."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def close(self) -> None:
        """Wake the consumer: no more frames will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, timeout_s: float) -> Frame | Exception | None:
        """The frame, else the error, else None after `timeout_s` seconds without either."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._frame is not None or self._error is not None or self._closed, timeout_s
            )
            frame, self._frame = self._frame, None
            return self._error if frame is None else frame
