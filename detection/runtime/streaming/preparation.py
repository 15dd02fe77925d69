"""`FramePreparer`: a source's images, made ready for the network.

A recording's images are decoded and prepared ahead by a thread of the preparer's own, while the network
works on the ones before. A live image is taken and prepared at the last moment: prepared ahead it would
be older when its turn comes.
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
_TURN_S = 0.05
_JOIN_S = 5.0


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """An image that waits for the network.

    Attributes:
        place: of its source among all.
        frame: the image.
        detector: the one it was prepared for.
        slices: what the network will see of it.
        taken_ns: when it was taken to be prepared.
        prepared_ns: when it was ready.

    """

    place: int
    frame: Frame
    detector: Detector
    slices: Slices
    taken_ns: int
    prepared_ns: int


class FramePreparer(Protocol):
    """Where the pipeline gets one source's images.

    Attributes:
        ended: nothing more will come.

    """

    ended: bool

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The next image, or None where none came within `timeout_s` seconds, or where it ended.

        Raises:
            SourceError: the source died; afterwards the preparer has `ended`.

        """

    def close(self) -> None:
        """Leave the source alone from now on; the source itself stays open."""


def preparer_for(place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> FramePreparer:
    """The preparer that fits a source."""
    return (
        LivePreparer(place, source, slicer, controls)
        if source.live
        else RecordedPreparer(place, source, slicer, controls)
    )


class LivePreparer(FramePreparer):
    """The newest image, prepared when it is asked for; arguments as of `preparer_for`."""

    def __init__(self, place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> None:
        self._place, self._source, self._slicer, self._controls = place, source, slicer, controls

    @property
    def ended(self) -> bool:  # type: ignore[override] # read-only: the source knows
        """Whether the source has ended."""
        return self._source.ended

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The newest image; see `FramePreparer`."""
        frame = self._source.poll(timeout_s)
        return None if frame is None else _prepared(self._place, frame, self._slicer, self._controls)

    def close(self) -> None:
        """Nothing is held."""


class RecordedPreparer(FramePreparer):
    """Every image in order, a few of them ahead; arguments as of `preparer_for`."""

    def __init__(self, place: int, source: Source, slicer: FrameSlicer, controls: Controls) -> None:
        self._place, self._source, self._slicer, self._controls = place, source, slicer, controls
        self.ended = False
        self._queue: queue.Queue[PreparedFrame | Exception | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"prepare {source.camera}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """The thread: the last thing it leaves is None, or the error that ended it."""
        last: Exception | None = None
        try:
            while not self._source.ended and not self._stop.is_set():
                frame = self._source.poll(_TURN_S)
                if frame is not None:
                    self._leave(_prepared(self._place, frame, self._slicer, self._controls))
        except Exception as error:
            last = error
        self._leave(last)

    def _leave(self, item: PreparedFrame | Exception | None) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=_TURN_S)
            except queue.Full:
                continue

    def take(self, timeout_s: float) -> PreparedFrame | None:
        """The next image; see `FramePreparer`."""
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
        """End the thread; it leaves the source as soon as the image in hand is decoded."""
        self.ended = True
        self._stop.set()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise SourceError(f"{self._source.camera}: does not give its next image; left as it is")


def _prepared(place: int, frame: Frame, slicer: FrameSlicer, controls: Controls) -> PreparedFrame:
    taken_ns = time.monotonic_ns()
    detector = controls.detector
    slices = slice_frame(detector, frame.image, slicer)
    return PreparedFrame(place, frame, detector, slices, taken_ns, time.monotonic_ns())
