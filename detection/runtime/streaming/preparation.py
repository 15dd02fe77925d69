"""`FramePreparer`: takes frames of a source and prepares them for the network: region, tiles, letterbox.

Frames of a recording are decoded and prepared ahead in a thread of their own, while the network
works on earlier ones. A live frame is taken and prepared at the last moment: prepared ahead, it would
be older when it reaches the network.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import SourceError
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.slices import FrameSlicer, Slices, slice_frame

_AHEAD = 1
_POLL_S = 0.05
_JOIN_S = 5.0


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A frame ready for the network.

    Attributes:
        place: index of its source.
        frame: the frame.
        detector: the one it was prepared for.
        slices: its slices.
        taken_ns: when preparation began.
        prepared_ns: when it was ready.

    """

    place: int
    frame: Frame
    detector: Detector
    slices: Slices
    taken_ns: int
    prepared_ns: int


class FramePreparer(Protocol):
    """Prepared frames of one source.

    Attributes:
        ended: nothing more will come.

    """

    ended: bool

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The next frame; None where none came within `timeout_s` seconds, or the source has ended.

        Raises:
            SourceError: the source failed; afterwards the preparer has `ended`.

        """

    def close(self) -> None:
        """Stop reading from the source; the source itself stays open."""


def preparer_for(place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> FramePreparer:
    """The preparer that fits a source."""
    return (
        LivePreparer(place, source, slicer, controls)
        if source.live
        else RecordedPreparer(place, source, slicer, controls)
    )


class LivePreparer(FramePreparer):
    """The newest frame, prepared on demand; arguments as of `preparer_for`."""

    def __init__(self, place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> None:
        self._place, self._source, self._slicer, self._controls = place, source, slicer, controls

    @property
    def ended(self) -> bool:  # type: ignore[override] # read-only: the source knows
        """Whether the source has ended."""
        return self._source.ended

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The newest frame; see `FramePreparer`."""
        frame = self._source.poll(timeout_s)
        return None if frame is None else _prepared(self._place, frame, self._slicer, self._controls)

    def close(self) -> None:
        """Nothing is held."""


class RecordedPreparer(FramePreparer):
    """Every frame in order, prepared ahead; arguments as of `preparer_for`."""

    def __init__(self, place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> None:
        self._place, self._source, self._slicer, self._controls = place, source, slicer, controls
        self.ended = False
        self._queue: queue.Queue[PreparedFrame | Exception | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"prepare {source.camera}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """The thread; the last item in the queue is None, or the error that ended it."""
        last: Exception | None = None
        try:
            while not self._source.ended and not self._stop.is_set():
                frame = self._source.poll(_POLL_S)
                if frame is not None:
                    self._enqueue(_prepared(self._place, frame, self._slicer, self._controls))
        except Exception as error:
            last = error
        self._enqueue(last)

    def _enqueue(self, item: PreparedFrame | Exception | None) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                continue

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The next frame; see `FramePreparer`."""
        if self.ended:
            return None
        try:
            item = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, PreparedFrame):
            return item
        self.ended = True
        if item is not None:
            raise item
        return None

    def close(self) -> None:
        """End the thread, which finishes decoding the current frame first."""
        self.ended = True
        self._stop.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise SourceError(f"{self._source.camera}: does not deliver its next image; it is left open")


def _prepared(place: int, frame: Frame, slicer: FrameSlicer, controls: Controls) -> PreparedFrame:
    taken_ns = time.monotonic_ns()
    detector = controls.detector
    slices = slice_frame(detector, frame.image, slicer)
    return PreparedFrame(place, frame, detector, slices, taken_ns, time.monotonic_ns())
