"""`Queued`: runs any output in its own thread, so that a slow or dead one never slows the pipeline."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener, ignore_event
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.health import Health

_log = logging.getLogger(__name__)

IMAGES, RECORDS = 8, 256
"""How many frames wait: of outputs that need the image (6 MB each at 1080p), and of others."""

_EVENTS = 256  # an output that takes none for long loses the oldest
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 30.0
_PATIENCE_S = 60.0  # for an output of a recording that accepts nothing
_LIVE_CLOSE_S = 5.0
_STOPPED_CLOSE_S = 0.6  # a stopped stream is gone within a second, with its last inference
_LOOK_S = 0.05


class _Shot(NamedTuple):
    frame: Frame
    detections: Detections
    record: Record


class Queued(Output):
    """Passes frames and events to another output in its own thread, through a bounded queue.

    For live streams (`lossless` False) nothing here ever waits: where the queue is full its oldest frame is dropped
    and counted, because a robot's newest detections matter most. A fault is published once, not once per frame, as
    an event of kind "output":

    - "behind": frames are dropped, the output is too slow.
    - "lost": it fails (disk full) or hangs for 10 s. It is tried again after 1 s, then less and less often, at least
      every 30 s; frames in between are dropped. The stream goes on: a full disk must not stop a robot.
    - "recovered": the queue is empty, and nothing was dropped for 5 s.

    For recordings (`lossless` True) a full queue makes `write` wait, so every frame is written;
    an output that fails, or accepts nothing for 60 s, raises from the next `write`.

    Args:
        inner: the opened output; from now on only this object's thread calls it.
        name: for events and errors; without passwords.
        lossless: whether every frame must be written.
        listener: receives the events; called from any thread.
        stop: once set, nothing waits longer than a stop within a second allows.
        depth: frames that wait at most; None for `IMAGES` or `RECORDS`.

    """

    def __init__(
        self,
        inner: Output,
        name: str,
        *,
        lossless: bool,
        listener: Listener = ignore_event,
        stop: threading.Event | None = None,
        depth: int | None = None,
    ) -> None:
        self.name = name
        self.camera = inner.camera
        self.needs_image = inner.needs_image
        self._inner = inner
        self._lossless = lossless
        self._listener = listener
        self._stop = stop or threading.Event()
        self._depth = depth or (IMAGES if inner.needs_image else RECORDS)
        self._health = Health(name)
        self._changed = threading.Condition()
        self._queue: deque[_Shot | Event] = deque()
        self._waiting = 0  # frames among them
        self._busy_since_s: float | None = None
        self._error: Exception | None = None  # of the last call, None where it went well
        self._raised = False
        self._retry_s, self._retry_at_s = _FIRST_RETRY_S, 0.0
        self._seen_stopped_s = math.inf
        self._closing_s = math.inf
        self._closed = self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=f"output {name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that were not written."""
        return self._health.dropped

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return self._waiting

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Queue a frame; returns at once where not `lossless`.

        Raises:
            OutputError: only where `lossless`: the output failed, or has accepted nothing for 60 s.

        """
        if self.camera not in (None, frame.camera):
            return
        if not self.needs_image:
            # As large, black, and without memory of its own.
            frame = replace(frame, image=np.broadcast_to(np.uint8(0), frame.image.shape))
        news: Event | None = None
        with self._changed:
            if self._lossless and not self._wait_for_room():
                self._health.drop(0.0)
                return
            if self._waiting >= self._depth:
                self._forget_oldest(_Shot)
                self._waiting -= 1
                news = self._health.drop(self._busy_for_s())
            self._queue.append(_Shot(frame, detections, record))
            self._waiting += 1
            self._changed.notify_all()
        self._publish(news)

    def event(self, event: Event) -> None:
        """Queue an event; never waits."""
        with self._changed:
            if len(self._queue) - self._waiting >= _EVENTS:
                self._forget_oldest(Event)
            self._queue.append(event)
            self._changed.notify_all()

    def begin_close(self) -> None:
        """Have what waits written and the output closed, without waiting for it here."""
        with self._changed:
            self._stopped_s()
            self._closing_s = min(self._closing_s, time.monotonic())
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits and close the output, in its thread; safe to call twice.

        Waits for a recording as long as the output gets on, for a live stream 5 s, and once `stop` is set
        0.6 s. An output that is not done by then is abandoned.

        Raises:
            OutputError: it was abandoned, its close failed, or it was lost at the end.

        """
        self.begin_close()
        if self._closed:
            return
        self._closed = True
        while self._thread.is_alive() and time.monotonic() < self._close_by_s():
            self._thread.join(_LOOK_S)
        if self._thread.is_alive():
            self._abandoned = True
            raise OutputError(f"{self.name}: does not finish; abandoned with {self._waiting} frames waiting")
        if self._error is not None and not self._raised:
            raise self._as_output_error(self._error)

    # --- in the pipeline's thread ---

    def _wait_for_room(self) -> bool:
        """False where the stream was stopped meanwhile; called with the lock held."""
        while True:
            if self._error is not None:
                self._raised = True
                raise self._as_output_error(self._error)
            if self._waiting < self._depth:
                return True
            if time.monotonic() > self._stopped_s() + _STOPPED_CLOSE_S / 2:
                return False
            if self._busy_for_s() > _PATIENCE_S:
                raise OutputError(f"{self.name}: has accepted nothing for {_PATIENCE_S:.0f} s; it hangs")
            self._changed.wait(_LOOK_S)

    def _close_by_s(self) -> float:
        limit_s = self._stopped_s() + _STOPPED_CLOSE_S
        if not self._lossless:
            return min(limit_s, self._closing_s + _LIVE_CLOSE_S)
        return min(limit_s, time.monotonic() + _PATIENCE_S - self._busy_for_s())

    def _stopped_s(self) -> float:
        """When the stop was first seen here; infinity before."""
        if self._stop.is_set():
            self._seen_stopped_s = min(self._seen_stopped_s, time.monotonic())
        return self._seen_stopped_s

    def _forget_oldest(self, kind: type[_Shot] | type[Event]) -> None:
        del self._queue[next(place for place, item in enumerate(self._queue) if isinstance(item, kind))]

    # --- in the output's thread ---

    def _run(self) -> None:
        while (item := self._take()) is not None:
            if self._retry_at_s > time.monotonic():
                if isinstance(item, _Shot):
                    with self._changed:
                        self._health.drop(0.0)
                continue
            try:
                if isinstance(item, Event):
                    self._inner.event(item)
                else:
                    self._inner.write(*item)
            except Exception as error:  # a library may raise anything; this thread must not end unnoticed
                self._failed(error, item)
                if self._lossless:
                    break
            else:
                self._error, self._retry_s = None, _FIRST_RETRY_S
        self._busy_since_s = time.monotonic()
        try:
            self._inner.close()
        except Exception as error:
            self._log_if_unexpected(error)
            self._error = self._error or error

    def _take(self) -> _Shot | Event | None:
        """The next item to write; None when all is written, or the output was abandoned."""
        while True:
            with self._changed:
                self._busy_since_s = None
                if self._abandoned:
                    return None
                if self._queue:
                    item = self._queue.popleft()
                    self._waiting -= isinstance(item, _Shot)
                    self._busy_since_s = time.monotonic()
                    self._changed.notify_all()
                    return item
                if self._closing_s < math.inf:
                    return None
                news = None if self._error else self._health.recover()
                if news is None:
                    self._changed.wait(1.0)
            self._publish(news)

    def _failed(self, error: Exception, item: _Shot | Event) -> None:
        self._log_if_unexpected(error)
        with self._changed:
            self._error = error
            self._retry_at_s = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
            self._health.dropped += isinstance(item, _Shot)
            news = self._health.fail(str(self._as_output_error(error)))
            self._changed.notify_all()
        if not self._lossless:  # for a recording `write` raises it
            self._publish(news)

    def _publish(self, news: Event | None) -> None:
        if news is not None:  # never with the lock held
            self._listener(news)

    def _log_if_unexpected(self, error: Exception) -> None:
        if not isinstance(error, OutputError) and self._error is None:
            _log.error("%s: failed unexpectedly", self.name, exc_info=error)

    def _as_output_error(self, error: Exception) -> OutputError:
        if isinstance(error, OutputError):
            return error
        return OutputError(f"{self.name}: failed unexpectedly ({type(error).__name__}: {error})")

    def _busy_for_s(self) -> float:
        since_s = self._busy_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s


def close_all(outputs: Sequence[Queued]) -> None:
    """Close outputs at the same time, so that together they take no longer than one.

    Raises:
        OutputError: the first that went wrong; further ones are logged. All are closed, or abandoned.

    """
    for output in outputs:
        output.begin_close()
    errors: list[OutputError] = []
    for output in outputs:
        try:
            output.close()
        except OutputError as wrong:
            errors.append(wrong)
    for error in errors[1:]:
        _log.error("%s", error)
    if errors:
        raise errors[0]
