"""`Connection`: one connection to a live camera, read by one thread until it fails or is stopped."""

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

_LEFTOVER_S = 1.0
_TOO_LATE_S = 1.0
_TOO_LATE_FOR_S = 3.0
"""A stream that stays this late for this long will not catch up: it is reopened."""


REFUSAL_TIMEOUT_S = 2.0
"""For finding out why a camera gives no video; of each step."""


class RefusedError(SourceError):
    """The camera refuses user or password: frequent attempts may lock the account."""


@dataclass(frozen=True)
class Opened:
    """A camera that was opened.

    Attributes:
        capture: for the thread that opened it, and no other, to use and release.
        patience_s: how long its first `grab` may take by its own timeouts; beyond that it hangs.
        stamped: whether its images carry time stamps of their own.
        clocked: whether `StreamClock` can measure from them how late an image is.
        unchanged: whether the last `grab` brought no new image although the camera is well.
        paced: whether it keeps to `max_fps` itself.

    """

    capture: Capture
    patience_s: float
    stamped: bool = False
    clocked: bool = False
    unchanged: Callable[[], bool] = lambda: False
    paced: bool = False


Deliver = Callable[["Connection", NDArray[np.uint8] | None, int, float | None], None]
"""Takes the connection, the image (None where it could not be decoded), `captured_ns` and `stream_s`."""


class Connection:
    """Opens a camera and reads it, in a thread of its own.

    Args:
        open_camera: called in the thread; raises `SourceError` where there is no camera.
        camera: its name in messages.
        open_patience_s: how long opening may take; beyond that it hangs.
        silence_s: how long it may give no image after the first one.
        max_fps: deliver at most this many images per second; None for all.
        deliver: called in the thread with each image.
        alive: called in the thread when a camera that is well has no new image.

    Attributes:
        failed: set when no more images come; the camera may not be released yet.
        done: set when the thread has ended and released the camera.
        error: why it ended; None before, or where it was stopped.
        delivered: how many images were delivered.
        fps: images per second as the camera states it; None where it does not, or is not open yet.
        backlog: images that were old when they came: buffered before the connection was opened.

    """

    def __init__(
        self,
        open_camera: Callable[[], Opened],
        camera: str,
        *,
        open_patience_s: float,
        silence_s: float,
        max_fps: float | None,
        deliver: Deliver,
        alive: Callable[[Connection], None],
    ) -> None:
        self.failed = threading.Event()
        self.done = threading.Event()
        self.error: Exception | None = None
        self.delivered = 0
        self.fps: float | None = None
        self.backlog = 0
        self._camera = camera
        self._open_camera = open_camera
        self._patience_s = open_patience_s
        self._silence_s = silence_s
        self._alive = alive
        self._limiter = FrameRateLimiter(max_fps)
        self._deliver = deliver
        self._stop = threading.Event()
        self._called_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"read {camera}", daemon=True)
        self._thread.start()

    @property
    def hangs_for_s(self) -> float:
        """For how many seconds the camera has been silent beyond what it may; 0 or less where it has not."""
        if self.failed.is_set():
            return 0.0
        return time.monotonic() - self._called_s - self._patience_s

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the thread as soon as its present call into the driver returns."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end; False where it has not."""
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
            self.failed.set()  # releasing may take as long as its timeouts
            if opened is not None:
                opened.capture.release()
            self.done.set()

    def _read(self, opened: Opened) -> None:
        capture = opened.capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else None
        clock = StreamClock() if opened.clocked else None
        late_since_s = first_s = None
        self._called_s, self._patience_s = time.monotonic(), opened.patience_s
        leftover = False
        while not self._stop.is_set():
            began_s = time.monotonic()
            if not leftover:
                self._called_s = began_s
            if not capture.grab():
                raise SourceError(f"{self._camera}: no more images after {self.delivered}; camera or network down?")
            captured_ns = time.monotonic_ns()
            now_s = captured_ns / 1e9
            self._patience_s = self._silence_s
            if opened.unchanged():
                self._alive(self)
                continue
            stream_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3 if opened.stamped else None
            if stream_s == 0 and not opened.clocked:
                stream_s = None  # from drivers that have none
            leftover = False
            if clock is not None and stream_s is not None:
                late_s = clock.late_s(now_s, stream_s)
                # FFmpeg holds one image back, and gives it when it gives up: no sign of life
                leftover = late_s is not None and late_s > 0.5 * (now_s - began_s) > 0.5 * _LEFTOVER_S
                if late_s is None:
                    self.backlog += 1
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
            if not opened.paced and not self._limiter.accepts(now_s):
                continue  # without converting it
            readable, image = capture.retrieve()
            self.delivered += 1
            if stream_s is not None:
                # A device's stamp counts from when the machine was started.
                first_s = stream_s if first_s is None else first_s
                stream_s -= first_s
            self._deliver(self, image if readable else None, captured_ns, stream_s)
