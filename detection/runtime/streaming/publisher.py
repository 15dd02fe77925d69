"""`Publisher`: what comes out of the network, made into records and given to the outputs, in a thread of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detection.runtime.backends.contract import Raw
from detection.runtime.detections import Detections, Frame
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Output, Record, make_record
from detection.runtime.streaming.preparation import PreparedFrame
from detection.runtime.streaming.slices import merged_detections
from detection.runtime.streaming.summary import StreamCounters

_TURN_S = 0.05
_EVENTS = 1000

Progress = Callable[[Frame, Detections, Record], None]
"""Called after each frame, when its outputs have it."""


class Tracker(Protocol):
    """What the stream asks of a tracker; one per camera."""

    @property
    def counted(self) -> dict[str, int]:
        """How many plants of each class were seen so far, each once."""

    @property
    def score_floors(self) -> NDArray[np.float32]:
        """(classes,): from which scores on it wants to know of boxes."""

    def update(self, frame: Frame, detections: Detections, faint: Detections) -> Detections:
        """The detections with `track_ids`; `faint` are those that only the tracker is told of."""


class EventQueue:
    """Where events wait for the pipeline: put in from any thread at once, the oldest lost where nobody empties it."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_EVENTS)

    def put(self, event: Event) -> None:
        """Leave an event; a `Listener`."""
        self._events.append(event)

    def take(self) -> Event | None:
        """The oldest one that is left, None where there is none."""
        try:
            return self._events.popleft()
        except IndexError:
            return None


@dataclass(frozen=True, eq=False)
class Run:
    """What the network gave, and when it began."""

    raw: Raw
    begun_ns: int


@dataclass(frozen=True, eq=False)
class Inferred:
    """An image that the network has seen, or is about to: its rows of what `run` gives start at `first_row`."""

    ready: PreparedFrame
    run: Future[Run]
    first_row: int


class Publisher:
    """Finishes, tracks, records and writes, while the network works on the next image.

    Where outputs keep it waiting the pipeline waits too, an image later: nothing is inferred that
    nobody hears of. (Outputs that must not do that are wrapped in `Queued`.) What goes wrong here is
    raised by the next `put` or by `close`.

    Args:
        outputs: get every frame and event, from this thread alone.
        counters: what is counted here: frames, detections, ages and stages.
        events: emptied before each frame, and while none comes.
        trackers: by the place of the source; a camera without one is not tracked.
        max_age_s: a live image that is older is not told of; None: any age is told.
        live: per source, whether time goes on without us.
        on_progress: called after each frame.
        behind: how many images may wait here.

    """

    def __init__(
        self,
        outputs: Sequence[Output],
        counters: StreamCounters,
        events: EventQueue,
        *,
        trackers: Sequence[Tracker | None],
        max_age_s: float | None,
        live: Sequence[bool],
        on_progress: Progress | None,
        behind: int = 1,
    ) -> None:
        self._outputs, self._counters, self._events = outputs, counters, events
        self._trackers, self._live, self._on_progress = trackers, live, on_progress
        self._max_age_ns = None if max_age_s is None else round(max_age_s * 1e9)
        self._queue: queue.Queue[Inferred | None] = queue.Queue(behind)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def put(self, item: Inferred) -> None:
        """Hand over an image that the network has seen, or is about to; in the order of the outputs.

        Raises:
            OutputError: an earlier one could not be written.

        """
        while True:
            self.check()
            try:
                return self._queue.put(item, timeout=_TURN_S)
            except queue.Full:
                continue

    def check(self) -> None:
        """Raise what went wrong so far, once."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Write what is handed over already, then the events that are left; raises as `put` does."""
        while self._thread.is_alive():
            try:
                self._queue.put(None, timeout=_TURN_S)
                break
            except queue.Full:
                continue
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            while True:
                try:
                    item = self._queue.get(timeout=_TURN_S)
                except queue.Empty:
                    self._publish_events()
                    continue
                self._publish_events()
                if item is None:
                    return
                self._publish(item)
        except BaseException as error:
            self._error = error

    def _publish_events(self) -> None:
        while (event := self._events.take()) is not None:
            for output in self._outputs:
                output.event(event)

    def _publish(self, item: Inferred) -> None:
        """One frame, stage by stage on one clock, so that the stages add up to the age."""
        ready, frame, place = item.ready, item.ready.frame, item.ready.place
        run = item.run.result()
        finished = time.monotonic_ns()
        thresholds = ready.detector.score_thresholds  # once: they may change meanwhile
        detections = merged_detections(ready.detector, run.raw, item.first_row, ready.slices, thresholds)
        clock = [frame.captured_ns, ready.taken_ns, ready.prepared_ns, run.begun_ns, finished, time.monotonic_ns()]
        names = ["source", "prepare", "wait", "infer", "finish"]
        tracker = self._trackers[place]
        if tracker is not None:
            all_rows = merged_detections(ready.detector, run.raw, item.first_row, ready.slices, tracker.score_floors)
            faint = all_rows[all_rows.scores < thresholds[all_rows.labels]]
            detections = tracker.update(frame, detections, faint)
            clock.append(time.monotonic_ns())
            names.append("track")
        age_ns = clock[-1] - clock[0]
        if self._live[place] and self._max_age_ns is not None and age_ns > self._max_age_ns:
            self._counters.too_old_after[place] += 1
            return
        spans = [(b - a) / 1e6 for a, b in zip(clock, clock[1:], strict=False)]
        latency_ms = dict(zip(names, spans, strict=True))
        record = make_record(
            frame,
            detections,
            ready.detector.class_names,
            age_ms=age_ns / 1e6,
            latency_ms=latency_ms,
            counted=None if tracker is None else dict(tracker.counted),
        )
        before = time.perf_counter()
        for output in self._outputs:
            output.write(frame, detections, record)
        counters = self._counters
        counters.stages["output"].add((time.perf_counter() - before) * 1e3)
        for stage, span in latency_ms.items():
            counters.stages[stage].add(span)
        counters.age.add(age_ns / 1e6)
        counters.detections += len(detections)
        counters.frames[place] += 1
        if self._on_progress is not None:
            self._on_progress(frame, detections, record)
