"""`run_stream`: frames of many cameras through one detector into outputs, in overlapping stages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import cv2

from detection.runtime.cameras.source import Source
from detection.runtime.detector import Detector
from detection.runtime.errors import SourceError
from detection.runtime.outputs.contract import Output
from detection.runtime.streaming.batching import worthwhile_batch
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.options import StreamOptions
from detection.runtime.streaming.preparation import FramePreparer, PreparedFrame, preparer_for
from detection.runtime.streaming.publisher import Inferred, Progress, Publisher, Run
from detection.runtime.streaming.slices import WHOLE_FRAME
from detection.runtime.streaming.summary import StreamCounters, StreamSummary

_log = logging.getLogger(__name__)
_PAUSE_S = 0.001
_WAIT_S = 0.05


def run_stream(
    detector: Detector | Controls,
    sources: Sequence[Source],
    outputs: Sequence[Output],
    options: StreamOptions | None = None,
    *,
    stop: threading.Event | None = None,
    max_frames: int | None = None,
    on_progress: Progress | None = None,
) -> StreamSummary:
    """Detect in every frame of the sources until all have ended, `stop` is set, or `max_frames` are done.

        detector = Detector("weeds.onnx")
        with open_source("field.mp4") as source, JsonlOutput("found.jsonl") as output:
            summary = run_stream(detector, [source], [output], StreamOptions(max_age_s=0.2))
        print(summary.fps, summary.age_ms["p99"])

    Threads: recordings are decoded and prepared ahead, in one thread each; this thread takes what is ready
    from each source in turn and runs the network, or lets `workers` run it; one more makes records and
    gives them to the outputs, in order.
    A source that fails is logged as an error, is in the summary's `failures`, and does not stop the
    others. The caller opens and closes sources and outputs. Meanwhile OpenCV uses one thread per
    call in the whole process: the cores are the network's.

    Args:
        detector: warmed up by the caller; `Controls` where thresholds or model may change meanwhile.
        sources: opened.
        outputs: each gets every frame and event, from one thread.
        options: region, tiles, tracking, limits, batches; None takes the defaults.
        stop: set it from a signal handler or another thread; frames that the network has seen are still written.
        max_frames: over all sources together; None for no limit.
        on_progress: called after each frame, from the outputs' thread.

    Returns:
        What was counted: frames, dropped frames, detections, latencies and ages.

    Raises:
        OutputError: an output cannot be written; the stream ends, because its detections would be lost.

    """
    options = options or StreamOptions()
    controls = detector if isinstance(detector, Controls) else Controls(detector)
    counters = StreamCounters.of(len(sources))
    live = any(source.live for source in sources)
    workers = 1 if live or options.duty is not None else options.workers
    with ExitStack() as stack:
        stack.enter_context(_one_opencv_thread())
        round_robin = _RoundRobin(
            [
                preparer_for(i, source, options.slicers.get(source.camera, WHOLE_FRAME), controls)
                for i, source in enumerate(sources)
            ],
            counters,
            stop or threading.Event(),
            max_frames,
        )
        stack.callback(round_robin.close)
        publisher = Publisher(outputs, sources, options, counters, on_progress, max_waiting=max(1, workers - 1))
        network = _Network(workers, publisher)
        stack.callback(network.close)
        batch = 1
        if options.batch_wait_s is not None and len(sources) > 1:
            batch = worthwhile_batch(controls.detector, len(sources))
        started = time.perf_counter()
        try:
            while round_robin.more():
                if options.heartbeat is not None:
                    options.heartbeat()
                publisher.check()
                ready = round_robin.next(batch, options.batch_wait_s or 0.0)
                for together in _runs(_young_enough(ready, counters, sources, options.max_age_s)):
                    worked_s = network.infer(together)
                    if options.duty is not None:
                        options.duty.pause_after(worked_s, round_robin.stop)
        finally:
            publisher.close()
        wall_s = time.perf_counter() - started
    return counters.summary(sources, wall_s)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """While the stream runs: a second thread gains nothing and delays the network (docs/robot/stream.md)."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _young_enough(
    ready: list[PreparedFrame], counters: StreamCounters, sources: Sequence[Source], max_age_s: float | None
) -> list[PreparedFrame]:
    """Those that are not older than the limit; the others are dropped and counted."""
    if max_age_s is None:
        return ready
    born_after_ns = time.monotonic_ns() - round(max_age_s * 1e9)
    kept = []
    for item in ready:
        if sources[item.place].live and item.frame.captured_ns < born_after_ns:
            counters.too_old_before[item.place] += 1
        else:
            kept.append(item)
    return kept


def _runs(ready: list[PreparedFrame]) -> list[list[PreparedFrame]]:
    """Grouped for single runs of one detector: a frame in tiles is a batch already."""
    groups: list[list[PreparedFrame]] = []
    for item in ready:
        last = groups[-1] if groups else []
        room = last and last[0].detector is item.detector
        parts = sum(len(r.slices.prepared) for r in last) + len(item.slices.prepared)
        if room and parts <= item.detector.metadata.max_batch:
            last.append(item)
        else:
            groups.append([item])
    return groups


class _Network:
    """Runs the network, in this thread or in several workers; hands over to the publisher in order."""

    def __init__(self, workers: int, publisher: Publisher) -> None:
        self._publisher = publisher
        self._pool = None if workers == 1 else ThreadPoolExecutor(workers, thread_name_prefix="infer")

    def infer(self, ready: list[PreparedFrame]) -> float:
        """One run, handed over; returns the seconds that it took of this thread's time."""
        begun_s = time.perf_counter()
        run: Future[Run]
        if self._pool is not None:
            run = self._pool.submit(_run, ready)
        else:
            run = Future()
            run.set_result(_run(ready))
        worked_s = time.perf_counter() - begun_s
        row = 0
        for item in ready:
            self._publisher.put(Inferred(item, run, row))
            row += len(item.slices.prepared)
        return worked_s

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _run(ready: list[PreparedFrame]) -> Run:
    pixels = [prepared.pixels for item in ready for prepared in item.slices.prepared]
    begun_ns = time.monotonic_ns()
    return Run(ready[0].detector.infer_all(pixels), begun_ns)


class _RoundRobin:
    """Takes frames from the preparers in turn, one each, so that no camera waits for another."""

    def __init__(
        self, preparers: list[FramePreparer], counters: StreamCounters, stop: threading.Event, max_frames: int | None
    ) -> None:
        self._preparers, self._counters, self.stop = preparers, counters, stop
        self._active = list(range(len(preparers)))
        self._left = max_frames
        self._turn = 0

    def more(self) -> bool:
        """Whether there may be more frames."""
        return bool(self._active) and not self.stop.is_set() and (self._left is None or self._left > 0)

    def next(self, batch: int, wait_s: float) -> list[PreparedFrame]:
        """Up to `batch` frames of different sources; empty where none came within a moment."""
        found: list[PreparedFrame] = []
        until_s = time.monotonic() + wait_s
        self._round(found, batch)
        while found and len(found) < min(batch, len(self._active)) and self.more() and time.monotonic() < until_s:
            time.sleep(_PAUSE_S)
            self._round(found, batch)
        if not found and len(self._active) > 1:
            time.sleep(_PAUSE_S)
        return found

    def _round(self, found: list[PreparedFrame], batch: int) -> None:
        """One turn over the sources that are not in `found` yet."""
        # One source alone may be waited for; of several, none may keep the others waiting.
        timeout_s = _WAIT_S if len(self._active) == 1 else 0.0
        taken = {item.place for item in found}
        start = self._turn
        order = [p for p in self._active if p >= start] + [p for p in self._active if p < start]
        for place in order:
            if not self.more() or len(found) >= batch:
                return
            if place in taken:
                continue
            item = self._take(place, timeout_s)
            if item is not None:
                self._turn = place + 1
                if self._left is not None:
                    self._left -= 1
                found.append(item)

    def _take(self, place: int, timeout_s: float) -> PreparedFrame | None:
        preparer, item = self._preparers[place], None
        try:
            item = preparer.take(timeout_s)
        except SourceError as error:
            self._counters.failures[place] = str(error)
            _log.error("%s", error)
        if preparer.ended:
            self._active.remove(place)
        return item

    def close(self) -> None:
        """Close all preparers; the sources stay open."""
        for preparer in self._preparers:
            try:
                preparer.close()
            except SourceError as error:
                _log.error("%s", error)
