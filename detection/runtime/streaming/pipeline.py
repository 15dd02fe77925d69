"""`run_stream`: frames from sources through the detector into outputs, with the time of each stage."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from detection.runtime.cameras.source import Source
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import SourceError
from detection.runtime.latency import Latency
from detection.runtime.outputs.contract import Output, Record, make_record

_log = logging.getLogger(__name__)
_PAUSE_S = 0.001
_WAIT_S = 0.05

STAGES = ("source", "prepare", "infer", "finish", "output")
"""The stages, in order. `source`: from the grab until the detector took the picture (a file's
decoding; a live picture's conversion and its wait in the mailbox). `prepare`: letterbox. `infer`: the
graph. `finish`: boxes back to the picture. `output`: all outputs together (not part of a frame's age)."""

Progress = Callable[[Frame, Detections, Record], None]
"""Called after each frame, when its outputs are written."""


@dataclass(frozen=True)
class CameraSummary:
    """What came of one source.

    Attributes:
        camera: its name.
        frames: pictures that went through the detector.
        dropped: pictures that a newer one overtook.
        unreadable: pictures that could not be decoded.
        failure: why it ended too early, None where it did not.

    """

    camera: str
    frames: int
    dropped: int
    unreadable: int
    failure: str | None


@dataclass(frozen=True)
class StreamSummary:
    """What a stream did.

    Attributes:
        cameras: one summary per source, in the order given.
        detections: how many, over all frames.
        wall_s: seconds from the first frame asked for to the last output written.
        latency_ms: per stage p50, p95, p99 and max.
        age_ms: the same of the pictures' ages when their records were made.

    """

    cameras: tuple[CameraSummary, ...]
    detections: int
    wall_s: float
    latency_ms: dict[str, dict[str, float]]
    age_ms: dict[str, float]

    @property
    def frames(self) -> int:
        """Pictures that went through the detector, over all sources."""
        return sum(c.frames for c in self.cameras)

    @property
    def dropped(self) -> int:
        """Pictures that newer ones overtook, over all sources."""
        return sum(c.dropped for c in self.cameras)

    @property
    def unreadable(self) -> int:
        """Pictures that could not be decoded, over all sources."""
        return sum(c.unreadable for c in self.cameras)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why sources ended too early; empty where all went well."""
        return tuple(c.failure for c in self.cameras if c.failure)

    @property
    def fps(self) -> float:
        """Frames through the detector a second, over all sources; 0.0 without frames."""
        return self.frames / self.wall_s if self.frames and self.wall_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as plain Python, for a JSON file."""
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "unreadable": self.unreadable,
            "detections": self.detections,
            "wall_s": round(self.wall_s, 3),
            "fps": round(self.fps, 2),
            "latency_ms": self.latency_ms,
            "age_ms": self.age_ms,
            "cameras": [vars(c) for c in self.cameras],
            "failures": list(self.failures),
        }


@dataclass
class _Tally:
    """What is counted while a stream runs."""

    frames: list[int]
    failures: list[str | None]
    detections: int = 0
    stages: dict[str, Latency] = field(default_factory=lambda: {stage: Latency() for stage in STAGES})
    age: Latency = field(default_factory=Latency)


def run_stream(
    detector: Detector,
    sources: Sequence[Source],
    outputs: Sequence[Output],
    *,
    stop: threading.Event | None = None,
    max_frames: int | None = None,
    on_progress: Progress | None = None,
) -> StreamSummary:
    """Run until all sources ended, `stop` is set, or `max_frames` frames are through.

    Several sources take turns, each giving what it has ready. One that fails is logged as an error,
    stands in the summary's `failures`, and does not stop the others. The caller opens and closes
    sources and outputs.

    Args:
        detector: warmed up by the caller.
        sources: opened.
        outputs: each gets every frame.
        stop: looked at before each frame; set it from a signal handler or another thread.
        max_frames: over all sources together; None for no limit.
        on_progress: called after each frame.

    Raises:
        OutputError: an output cannot be written; nothing is detected that nobody hears of.

    """
    stop = stop or threading.Event()
    tally = _Tally([0] * len(sources), [None] * len(sources))
    started = time.perf_counter()
    for place, frame in _frames(sources, stop, tally.failures):
        detections, record = _detect(detector, frame, tally)
        before = time.perf_counter()
        for output in outputs:
            output.write(frame, detections, record)
        tally.stages["output"].add((time.perf_counter() - before) * 1e3)
        tally.frames[place] += 1
        if on_progress is not None:
            on_progress(frame, detections, record)
        if max_frames is not None and sum(tally.frames) >= max_frames:
            break
    wall_s = time.perf_counter() - started
    return StreamSummary(
        cameras=tuple(
            CameraSummary(source.camera, frames, source.dropped, source.unreadable, failure)
            for source, frames, failure in zip(sources, tally.frames, tally.failures, strict=True)
        ),
        detections=tally.detections,
        wall_s=wall_s,
        latency_ms={stage: latency.summary_ms() for stage, latency in tally.stages.items()},
        age_ms=tally.age.summary_ms(),
    )


def _detect(detector: Detector, frame: Frame, tally: _Tally) -> tuple[Detections, Record]:
    """One frame through the detector, stage by stage on one clock, so that the stages add up to the age."""
    clock = [frame.captured_ns, time.monotonic_ns()]
    prepared = detector.prepare(frame.image)
    clock.append(time.monotonic_ns())
    raw = detector.infer(prepared.pixels[None])
    clock.append(time.monotonic_ns())
    detections = detector.finish(raw, 0, prepared.placement)
    clock.append(time.monotonic_ns())
    spans = [(b - a) / 1e6 for a, b in zip(clock, clock[1:], strict=False)]
    latency_ms = dict(zip(STAGES, spans, strict=False))  # without `output`, which is yet to come
    age_ms = (clock[-1] - clock[0]) / 1e6
    for stage, span in latency_ms.items():
        tally.stages[stage].add(span)
    tally.age.add(age_ms)
    tally.detections += len(detections)
    return detections, make_record(frame, detections, detector.class_names, age_ms=age_ms, latency_ms=latency_ms)


def _frames(
    sources: Sequence[Source], stop: threading.Event, failures: list[str | None]
) -> Iterator[tuple[int, Frame]]:
    """Frames of all sources in turn with the source's place; failures are written into `failures`."""
    active = list(range(len(sources)))
    while active and not stop.is_set():
        found = False
        # One source alone may be waited for; of several, none may keep the others waiting.
        timeout_s = _WAIT_S if len(active) == 1 else 0.0
        for place in tuple(active):
            if stop.is_set():
                return
            frame = None
            try:
                frame = sources[place].poll(timeout_s)
            except SourceError as error:
                failures[place] = str(error)
                _log.error("%s", error)
            if sources[place].ended:
                active.remove(place)
            if frame is not None:
                found = True
                yield place, frame
        if not found and len(active) > 1:
            time.sleep(_PAUSE_S)
