"""`Publisher`: turns the network's output into records and gives them to the outputs, in its own thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from detection.runtime.backends.contract import Raw
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import ModelOutputError
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Output, Record, make_record
from detection.runtime.streaming.options import StreamOptions
from detection.runtime.streaming.preparation import PreparedFrame
from detection.runtime.streaming.slices import is_full, merged_detections
from detection.runtime.streaming.summary import StreamCounters

_TURN_S = 0.05

Progress = Callable[[Frame, Detections, Record], None]
"""Called after each frame, when all outputs have it."""


@dataclass(frozen=True, eq=False)
class Run:
    """Output of the network, and when it began."""

    raw: Raw
    begun_ns: int


@dataclass(frozen=True, eq=False)
class Inferred:
    """A frame in or through the network; its rows of the output of `run` start at `first_row`."""

    ready: PreparedFrame
    run: Future[Run]
    first_row: int


class Publisher:
    """Finishes, tracks, records and writes frames, while the network works on the next one.

    Where outputs block, the pipeline waits too, one frame later: nothing is detected and then lost. (Outputs that
    must not block it are wrapped in `Queued`.) An error here is raised by the next `put` or by `close`.

    Args:
        outputs: get every frame and event, from this thread alone.
        sources: of the stream.
        options: of the stream: trackers, age limit, and events, which are published before each frame and while
            none comes.
        counters: what is counted here: frames, detections, ages and stages.
        on_progress: called after each frame.
        max_waiting: how many frames may wait here.

    """

    def __init__(
        self,
        outputs: Sequence[Output],
        sources: Sequence[Source],
        options: StreamOptions,
        counters: StreamCounters,
        on_progress: Progress | None = None,
        *,
        max_waiting: int = 1,
    ) -> None:
        self._outputs, self._counters, self._on_progress = outputs, counters, on_progress
        self._events = options.events
        self._listener = options.listener or options.events.put
        self._trackers = [options.trackers.get(source.camera) for source in sources]
        self._live = [source.live for source in sources]
        self._max_age_ns = None if options.max_age_s is None else round(options.max_age_s * 1e9)
        self._faulty_in_a_row = [0] * len(sources)
        self._queue: queue.Queue[Inferred | None] = queue.Queue(max_waiting)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def put(self, item: Inferred) -> None:
        """Hand over a frame that is in or through the network; frames are written in this order.

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
        """Raise the error that happened since the last call, if any."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Write the frames handed over already, then the remaining events; raises as `put` does."""
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

    def _count_faulty(self, item: Inferred, why: str) -> None:
        """Count an image without an answer; an event for the first of several.

        It gets no record: an empty one would say that nothing is there.
        """
        place = item.ready.place
        self._counters.faulty[place] += 1
        self._faulty_in_a_row[place] += 1
        if self._faulty_in_a_row[place] == 1:
            frame = item.ready.frame
            path = str(item.ready.detector.path)
            why = f"{frame.camera}, image {frame.index}: {why.removeprefix(f'{path}: ')}; counted and not published"
            self._listener(Event("model", path, "faulty", why))

    def _count_sound(self, item: Inferred) -> None:
        place = item.ready.place
        if count := self._faulty_in_a_row[place]:
            self._faulty_in_a_row[place] = 0
            message = f"{item.ready.frame.camera}: answers again, after {count} images without"
            self._listener(Event("model", str(item.ready.detector.path), "recovered", message))

    def _publish(self, item: Inferred) -> None:
        """One frame, stage by stage on one clock, so that the stages add up to the age."""
        ready, frame, place = item.ready, item.ready.frame, item.ready.place
        run = item.run.result()
        finished = time.monotonic_ns()
        thresholds = ready.detector.score_thresholds  # once: they may change meanwhile
        try:
            detections = merged_detections(ready.detector, run.raw, item.first_row, ready.slices, thresholds)
        except ModelOutputError as error:
            self._count_faulty(item, str(error))
            return
        self._count_sound(item)
        rows_of = slice(item.first_row, item.first_row + len(ready.slices.windows_xyxy))
        at_cap = bool(is_full(run.raw.scores[rows_of], run.raw.labels[rows_of], thresholds).any())
        clock = [frame.captured_ns, ready.taken_ns, ready.prepared_ns, run.begun_ns, finished, time.monotonic_ns()]
        names = ["source", "prepare", "wait", "infer", "finish"]
        tracker = self._trackers[place]
        if tracker is not None:
            rows = merged_detections(
                ready.detector, run.raw, item.first_row, ready.slices, tracker.low_score_thresholds
            )
            detections = tracker.update(frame, detections, rows[rows.scores < thresholds[rows.labels]])
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
        counters.at_cap[place] += at_cap
        if self._on_progress is not None:
            self._on_progress(frame, detections, record)
