"""`Mailbox`: one slot between a camera's thread and whoever takes its images; the newest wins."""

from __future__ import annotations

import threading

from detection.runtime.detections import Frame


class Mailbox:
    """One slot between a reader thread and a consumer: a new frame replaces one that nobody took.

    Attributes:
        dropped: how many frames were replaced untaken.

    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self._closed = False
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Leave a frame; an untaken one is dropped and counted."""
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Leave the reason why no more frames come; what lies in the slot can still be taken."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def close(self) -> None:
        """Nobody need wait any longer."""
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
