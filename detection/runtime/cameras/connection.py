"""`Connection`: one opening of a live camera, read by one thread until it fails or is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.capture import Capture
from detection.runtime.cameras.frame_rate import FrameRateLimiter
from detection.runtime.cameras.stream_clock import StreamClock
from detection.runtime.errors import SourceError

_TOO_LATE_S = 1.0
_TOO_LATE_FOR_S = 3.0
"""A stream that stays this late for this long does not catch up any more: it is opened again."""


REFUSAL_TIMEOUT_S = 2.0
"""For the question why a camera gives no video, each step of it."""


class RefusedError(SourceError):
    """The camera is there and refuses user or password: asking often may lock the account."""


@dataclass(frozen=True)
class Opened:
    """A camera that answered.

    Attributes:
        capture: for the thread that opened it, and no other, to use and release.
        patience_s: how long its `grab` may take by its own timeouts before it counts as hanging.
        stamped: whether its images carry time stamps of their own.
        clocked: whether those stamps tell how late an image is.

    """

    capture: Capture
    patience_s: float
    stamped: bool = False
    clocked: bool = False


Deliver = Callable[["Connection", NDArray[np.uint8] | None, int, float | None], None]
"""Takes the connection, the image (None where it could not be decoded), `captured_ns` and `stream_s`."""


class Connection:
    """Opens a camera in a thread of its own and hands on what it gives.

    Args:
        open_camera: called in the thread; raises `SourceError` where there is no camera.
        camera: its name in messages.
        open_patience_s: how long opening may take before it counts as hanging.
        max_fps: hand on at most so many images a second; None for all.
        deliver: called in the thread with each image.

    Attributes:
        done: set when the thread is through and has released the camera.
        error: why it ended; None before, or where it was told to stop.
        delivered: how many images were handed on.
        fps: images a second as the camera states it; None where it does not, or is not open yet.
        overtaken: images that were old when they came: what had queued up before we listened.

    """

    def __init__(
        self,
        open_camera: Callable[[], Opened],
        camera: str,
        *,
        open_patience_s: float,
        max_fps: float | None,
        deliver: Deliver,
    ) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None
        self.delivered = 0
        self.fps: float | None = None
        self.overtaken = 0
        self._camera = camera
        self._open_camera = open_camera
        self._patience_s = open_patience_s
        self._limiter = FrameRateLimiter(max_fps)
        self._deliver = deliver
        self._stop = threading.Event()
        self._asked_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"read {camera}", daemon=True)
        self._thread.start()

    @property
    def hangs_for_s(self) -> float:
        """For how many seconds the camera has not answered beyond its own timeouts; 0 or less where it is in time."""
        if self.done.is_set():
            return 0.0
        return time.monotonic() - self._asked_s - self._patience_s

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Have the thread end after the call into the driver that it is in."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False where it has not ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        opened = None
        try:
            opened = self._open_camera()
            self._read(opened)
        except Exception as error:
            self.error = error
        finally:
            if opened is not None:
                opened.capture.release()
            self.done.set()

    def _read(self, opened: Opened) -> None:
        capture = opened.capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else None
        clock = StreamClock() if opened.clocked else None
        late_since_s = first_s = None
        self._asked_s, self._patience_s = time.monotonic(), opened.patience_s
        while not self._stop.is_set():
            self._asked_s = time.monotonic()
            if not capture.grab():
                raise SourceError(f"{self._camera}: no more images after {self.delivered}; camera or network down?")
            captured_ns = time.monotonic_ns()
            now_s = captured_ns / 1e9
            stream_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3 if opened.stamped else None
            if stream_s == 0 and not opened.clocked:
                stream_s = None  # how drivers say that they have none
            if clock is not None and stream_s is not None:
                late_s = clock.late_s(now_s, stream_s)
                if late_s is None:
                    self.overtaken += 1
                    continue
                captured_ns -= round(late_s * 1e9)
                if late_s < _TOO_LATE_S:
                    late_since_s = None
                elif late_since_s is None:
                    late_since_s = now_s
                elif now_s - late_since_s > _TOO_LATE_FOR_S:
                    raise SourceError(
                        f"{self._camera}: its images come {late_s:.1f} s late by their own time stamps; "
                        "is this machine or the network too slow for it? (else: stream_clock false)"
                    )
            if not self._limiter.accepts(now_s):
                continue  # without converting it
            readable, image = capture.retrieve()
            self.delivered += 1
            if stream_s is not None:
                # A device's stamp counts from when the machine was started.
                first_s = stream_s if first_s is None else first_s
                stream_s -= first_s
            self._deliver(self, image if readable else None, captured_ns, stream_s)
