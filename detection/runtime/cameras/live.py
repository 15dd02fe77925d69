"""`LiveSource`: a supervised camera: opened, monitored, reopened; its newest image waits in a mailbox."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.backoff import Backoff
from detection.runtime.cameras.connection import REFUSAL_TIMEOUT_S, Connection, Opened, RefusedError
from detection.runtime.cameras.mailbox import Mailbox
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError
from detection.runtime.events import CameraStatus, Event, Listener, ignore_event

_log = logging.getLogger(__name__)

_GRACE_S = 0.25
"""How much longer than its timeout a camera may be silent before its thread is abandoned: its own error says more."""

_MAX_ABANDONED = 3
"""Maximum number of threads of one camera that hang in a driver; then it is not reopened."""

_RETRY_FIRST_S = 0.5
_RETRY_CAP_S = 10.0
_RETRY_REFUSED_S = 30.0
"""Between attempts with a refused password: many cameras lock an account after a few."""

_STALE_AFTER_S = 1.0
_STALE_AFTER_INTERVALS = 3.0
_INTERVAL_UNKNOWN_S = 1.0
"""Assumed time between two images until two have come, where the camera does not state its rate."""
_SILENT_INTERVALS = 4.0
_LATE_S = 1.0
"""An image this late may come from the buffer of a broken connection. It is no sign of life."""

_TICK_S = 0.1
_CLOSE_WITHIN_S = 0.25

Connect = Callable[[float], Opened]
"""Opens a camera; takes how many seconds it may be silent; raises `SourceError` where there is none."""


class LiveSource(Source):
    """A camera or network stream that is kept open.

    A thread reads as fast as the camera delivers, so that no queue of old images builds up in the
    driver or on the network; another one monitors it. A connection that fails, or hangs in a driver, is
    replaced after a wait that grows from 0.5 to 10 s. A hanging thread cannot be ended: it is
    abandoned, images that it may still deliver are ignored, and there are at most three of them.

    `Frame.index` continues over all connections. `Frame.captured_ns` is when the image was grabbed, minus
    its lateness by the stream's own time stamps.

    Args:
        open_camera: opens it, in the reading thread; takes the seconds that it may be silent; raises `SourceError`.
        camera: its name in outputs and messages.
        settings: how to read it.
        retry: whether to reopen it when it is lost. False: then it has ended, and `poll` raises the error.
        on_event: receives each change of `status`.

    """

    live = True
    length = None

    def __init__(
        self,
        open_camera: Connect,
        camera: str,
        settings: LiveSettings,
        *,
        retry: bool = True,
        on_event: Listener = ignore_event,
    ) -> None:
        self.camera = camera
        self.unreadable = 0
        self.ended = False
        self.connections = 0
        self._settings = settings
        self._open_camera = open_camera
        self._retry = retry
        self._on_event = on_event
        self._mailbox = Mailbox()
        self._stop = threading.Event()
        self._stopped_s = 0.0
        self._lock = threading.RLock()
        self._status: CameraStatus | None = None
        self._message = ""
        self._index = 0
        self._too_old = 0
        self._backlog = 0
        self._last_seen_s = time.monotonic()
        self._interval_s: float | None = None
        self._fps: float | None = None
        self._abandoned: list[Connection] = []
        self._set_status(CameraStatus.STARTING, "is being opened")
        self._current = self._connect()
        self._thread = threading.Thread(target=self._supervise, name=f"monitor {camera}", daemon=True)
        self._thread.start()

    @property
    def fps(self) -> float | None:  # type: ignore[override] # read-only: the camera states it
        """Images per second as the camera states it; None until it is open, or where it does not."""
        return self._current.fps or self._fps

    @property
    def dropped(self) -> int:  # type: ignore[override] # read-only: counted in several places
        """Images that were replaced by a newer one, or older than the limit when they came or were taken."""
        return self._mailbox.dropped + self._too_old + self._backlog + self._current.backlog

    @property
    def status(self) -> CameraStatus:
        """The camera's status."""
        return self._status or CameraStatus.STARTING

    @property
    def abandoned(self) -> int:
        """How many threads hang in the camera's driver at this moment."""
        return sum(not connection.done.is_set() for connection in self._abandoned)

    def poll(self, timeout_s: float) -> Frame | None:
        """The newest image that was not taken yet; waits up to `timeout_s` seconds for one.

        None also where the camera is disconnected; see `status`.

        Raises:
            SourceError: the camera was lost and is not reopened (`retry` False).

        """
        if self.ended:
            return None
        found = self._mailbox.take(timeout_s)
        if isinstance(found, Frame):
            max_age_s = self._settings.max_age_s
            if max_age_s is not None and time.monotonic_ns() - found.captured_ns > max_age_s * 1e9:
                with self._lock:
                    self._too_old += 1
                return None
            return found
        if found is not None:
            self.ended = True
            if isinstance(found, SourceError):
                raise found
            raise SourceError(f"{self.camera}: reading failed ({found})") from found
        return None

    def stop(self) -> None:
        """Stop the threads without waiting for them."""
        self.ended = True
        with self._lock:
            if not self._stop.is_set():
                self._stopped_s = time.monotonic()
            self._stop.set()
            self._current.stop()
        self._mailbox.close()
        self._set_status(CameraStatus.ENDED, "was closed")

    def close(self) -> None:
        """Stop the threads and wait a moment. One that is in a call into the driver ends when the call returns."""
        self.stop()
        until_s = self._stopped_s + _CLOSE_WITHIN_S
        self._thread.join(max(0.0, until_s - time.monotonic()))
        self._current.join(max(0.0, until_s - time.monotonic()))
        if self.abandoned:
            _log.warning("%s: the camera's driver does not answer; its thread is abandoned", self.camera)

    def _connect(self) -> Connection:
        """Open a new connection; images of older ones are ignored from now on."""
        with self._lock:
            self.connections += 1
            self._last_seen_s = time.monotonic()
            # A slow camera would otherwise be abandoned between two of its images.
            silence_s = max(self._settings.read_timeout_s, _SILENT_INTERVALS * (self._interval_s or 0.0))
            self._current = Connection(
                lambda: self._open_camera(silence_s),
                self.camera,
                # The camera may be asked first, the stream analysed twice, and the camera asked why there is none.
                open_patience_s=3 * self._settings.open_timeout_s + REFUSAL_TIMEOUT_S,
                silence_s=silence_s,
                max_fps=self._settings.max_fps,
                deliver=self._deliver,
                alive=self._see,
            )
            return self._current

    def _deliver(
        self, connection: Connection, image: NDArray[np.uint8] | None, captured_ns: int, stream_s: float | None
    ) -> None:
        """Called by a reading thread with each image."""
        now_s = time.monotonic()
        with self._lock:
            if connection is not self._current or connection.stopped:
                return  # the late image of an abandoned thread
            late_s = now_s - captured_ns / 1e9
            if late_s < _LATE_S:
                if connection.delivered > 1:
                    gap_s = now_s - self._last_seen_s
                    # Adapts quickly, because a camera that slows down at night is not lost.
                    self._interval_s = gap_s if self._interval_s is None else 0.8 * self._interval_s + 0.2 * gap_s
                self._last_seen_s = now_s
            index = self._index
            self._index += 1
            if image is None:
                self.unreadable += 1
                return
            if late_s < _LATE_S:
                self._set_status(CameraStatus.LIVE, "gives images")
            self._mailbox.put(Frame(image, self.camera, index, captured_ns, stream_s))

    def _see(self, connection: Connection) -> None:
        """Called by a reading thread whose camera is well without a new image."""
        with self._lock:
            if connection is self._current and not connection.stopped:
                self._last_seen_s = time.monotonic()

    def _supervise(self) -> None:
        """The monitoring thread: one connection after the other until it is stopped."""
        backoff = Backoff(_RETRY_FIRST_S, _RETRY_CAP_S)
        while True:
            error = self._watch(self._current)
            if self._stop.is_set():
                return
            with self._lock:
                self._fps = self._current.fps or self._fps
            if not self._retry:
                self._set_status(CameraStatus.ENDED, self._without_name(error))
                self._mailbox.fail(error)
                return
            if self._current.delivered:
                backoff.reset()
            wait_s = backoff.next_s()
            if isinstance(error, RefusedError):
                wait_s = max(wait_s, _RETRY_REFUSED_S)
            self._set_status(CameraStatus.LOST, self._without_name(error))
            if self._stop.wait(wait_s) or not self._wait_for_driver():
                return
            with self._lock:
                if self._stop.is_set():
                    return
                self._backlog += self._current.backlog
                self._connect()

    def _wait_for_driver(self) -> bool:
        """Wait until few enough threads hang; False where stopped meanwhile."""
        while True:
            self._abandoned = [connection for connection in self._abandoned if not connection.done.is_set()]
            if len(self._abandoned) < _MAX_ABANDONED:
                return True
            self._set_status(
                CameraStatus.LOST,
                f"the driver hangs in {len(self._abandoned)} threads; "
                "waiting for one of them to return (unplug the camera and plug it in again)",
            )
            if self._stop.wait(_TICK_S):
                return False

    def _watch(self, connection: Connection) -> Exception:
        """Monitor a connection until it ends; returns why it ended."""
        while not connection.failed.wait(_TICK_S) and not self._stop.is_set():
            if connection.hangs_for_s > _GRACE_S:
                with self._lock:
                    connection.stop()
                    silent_s = time.monotonic() - self._last_seen_s
                    self._abandoned.append(connection)
                _log.warning("%s: no image for %.1f s; its connection is abandoned", self.camera, silent_s)
                return SourceError(f"{self.camera}: no image for {silent_s:.0f} s; camera or network down?")
            self._check_silence()
        if not self._stop.is_set() and not connection.done.wait(_TICK_S):
            self._abandoned.append(connection)  # it releases the camera, which may take a while
        return connection.error or SourceError(f"{self.camera}: was closed")

    def _without_name(self, error: Exception) -> str:
        """The message of an event, in one line, without the camera's name, which the event has itself."""
        return (str(error) or type(error).__name__).splitlines()[0].removeprefix(f"{self.camera}: ")

    def _check_silence(self) -> None:
        with self._lock:
            silent_s = time.monotonic() - self._last_seen_s
            interval_s = self._interval_s or (1 / self.fps if self.fps else _INTERVAL_UNKNOWN_S)
            if self._settings.max_fps is not None:
                interval_s = max(interval_s, 1 / self._settings.max_fps)
            stale_after_s = max(_STALE_AFTER_S, _STALE_AFTER_INTERVALS * interval_s)
            if self._status is CameraStatus.LIVE and silent_s > stale_after_s:
                self._set_status(CameraStatus.STALE, f"no image for {silent_s:.1f} s")

    def _set_status(self, status: CameraStatus, message: str) -> None:
        """Change the status and publish it, in order: the listener is called under the lock and returns at once."""
        with self._lock:
            unchanged = status is self._status and (status is CameraStatus.LIVE or message == self._message)
            if unchanged or self._status is CameraStatus.ENDED:
                return
            self._status, self._message = status, message
            self._on_event(Event("camera", self.camera, status, message))
