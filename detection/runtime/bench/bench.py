"""`measure`: latency of every stage, of the bare graph as the lower limit, and of batches; several models in turns.

All contestants are timed call by call in rounds, each in another position every round, so that whatever else the
machine does affects all alike. Milliseconds depend on the machine and the hour; ratios within one measurement do not,
or much less.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from detection.runtime.bench.cold_start import cold_start
from detection.runtime.bench.contestant import STAGES, Contestant
from detection.runtime.bench.energy import EnergyMeter
from detection.runtime.bench.images import Recording, synthetic_images
from detection.runtime.detector import Detector

BATCHES = (1, 2, 4, 8)
WARM_UP_RUNS = 5

Progress = Callable[[str, int, int], None]
"""Called with (name of the task, done, total)."""


@dataclass(eq=False)
class Measurement:
    """The result of `measure`.

    Attributes:
        contestants: in the given order.
        ended_by: "runs" after all rounds, "seconds" at the time limit, "user" where it was stopped.
        energy: the meter, with the reason where it could not be read.

    """

    contestants: list[Contestant]
    ended_by: str
    energy: EnergyMeter


@dataclass(frozen=True)
class MeasureOptions:
    """How long to measure.

    Attributes:
        runs: rounds, 1 or more.
        seconds: no further round begins after this time (warm-up and cold starts not counted; batches get a quarter
            more).
        cold_starts: processes per contestant; 0 for none.

    """

    runs: int = 200
    seconds: float = 120.0
    cold_starts: int = 3


def measure(
    entered: Sequence[Contestant],
    *,
    recording: Recording | None = None,
    options: MeasureOptions | None = None,
    stop: threading.Event | None = None,
    progress: Progress | None = None,
    energy: EnergyMeter | None = None,
) -> Measurement:
    """Measure all contestants.

        entered = contestants([Path("fp32.onnx"), Path("int8.onnx")])
        print(measure(entered, options=MeasureOptions(runs=50)).contestants[1].ratio_to(entered[0]))

    Args:
        entered: from `contestants`; receives the measurements.
        recording: images for all; None: synthetic ones at each input's own size.
        options: how long; None for the defaults.
        stop: ends it after the current call; what was measured stays.
        progress: called with (task, done, total).
        energy: the meter; None: this machine's.

    Raises:
        SourceError: the recording broke off.

    """
    options, stop = options or MeasureOptions(), stop or threading.Event()
    report = progress or (lambda task, done, total: None)
    meter = energy or EnergyMeter()
    _start_cold(entered, options.cold_starts, stop, report)
    own = [synthetic_images(one.detector.metadata.input_size_hw) for one in entered]
    for place, one in enumerate(entered):
        report("warm-up", place, len(entered))
        for image in range(WARM_UP_RUNS):
            if not stop.is_set():
                one.detector(own[place][image % len(own[place])])
    began = time.monotonic()
    ended_by = "runs"
    for turn in range(options.runs):
        report("rounds", turn, options.runs)
        if turn and time.monotonic() - began > options.seconds:
            ended_by = "seconds"
            break
        shared = recording.next() if recording else None
        images = [shared[0] if shared else mine[turn % len(mine)] for mine in own]
        decode_ms = shared[1] if shared and shared[1] is not None else math.nan
        if not _turn(entered, images, turn, decode_ms, stop, meter):
            ended_by = "user"
            break
    batch_images = [[shared[0]] if shared else mine for mine in own] if entered and options.runs else []
    _batches(entered, batch_images, max(3, min(10, options.runs // 20)), options.seconds / 4, stop, report)
    return Measurement(list(entered), "user" if stop.is_set() else ended_by, meter)


def _start_cold(entered: Sequence[Contestant], times: int, stop: threading.Event, report: Progress) -> None:
    """First, while this process's own sessions have not run yet and leave the cores free."""
    for done, (_, one) in enumerate(product(range(times), entered)):
        report("cold starts", done, times * len(entered))
        if stop.is_set():
            return
        outcome = cold_start(one.model, one.provider, one.threads)
        if not stop.is_set():  # Ctrl-C ends the other process too
            one.cold.append(outcome)


def _turn(
    entered: Sequence[Contestant],
    images: Sequence[NDArray[np.uint8]],
    turn: int,
    decode_ms: float,
    stop: threading.Event,
    meter: EnergyMeter,
) -> bool:
    """Stages, whole call and bare run of each contestant once; False, with nothing kept, where it was stopped."""
    taken: list[dict[str, float]] = [{"decode": decode_ms} for _ in entered]
    joules: list[float | None] = [None for _ in entered]
    calls = list(product(range(len(entered)), ("stages", "call", "bare")))
    first = turn % len(calls)
    for place, kind in calls[first:] + calls[:first]:
        if stop.is_set():
            return False
        detector, image, mine = entered[place].detector, images[place], taken[place]
        if kind == "stages":
            mine.update(_stages(detector, image))
        elif kind == "call":
            before = meter.read()
            with _timed(mine, "call"):
                detector(image)
            joules[place] = meter.joules_between(before, meter.read()) if before else None
        else:
            pixels, run = detector.prepare(image).pixels[None], detector.bare_run
            with _timed(mine, "bare"):
                run(pixels)
    for one, mine, spent in zip(entered, taken, joules, strict=True):
        mine["age"] = mine["decode"] + mine["call"]
        for stage in STAGES:
            one.samples_ms[stage].append(mine[stage])
        if spent is not None:
            one.joules.append(spent)
    return True


class _timed:  # noqa: N801  (reads as a statement; a generator's context manager would cost microseconds)
    def __init__(self, into: dict[str, float], stage: str) -> None:
        self._into, self._stage = into, stage

    def __enter__(self) -> None:
        self._began_ns = time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        self._into[self._stage] = (time.perf_counter_ns() - self._began_ns) / 1e6


def _stages(detector: Detector, image: NDArray[np.uint8]) -> dict[str, float]:
    """One call of each stage, in ms; `letterbox` includes stacking a batch of one, as the whole call does."""
    times_ns = [time.perf_counter_ns()]
    prepared = detector.prepare(image)
    pixels = np.stack([prepared.pixels])
    times_ns.append(time.perf_counter_ns())
    raw = detector.infer(pixels)
    times_ns.append(time.perf_counter_ns())
    detector.finish(raw, 0, prepared.placement)
    times_ns.append(time.perf_counter_ns())
    took = np.diff(times_ns) / 1e6
    return dict(zip(("letterbox", "infer", "finish"), took.tolist(), strict=True))


def _batches(
    entered: Sequence[Contestant],
    images: Sequence[Sequence[NDArray[np.uint8]]],
    rounds: int,
    seconds: float,
    stop: threading.Event,
    report: Progress,
) -> None:
    sizes = [[size for size in BATCHES if size <= one.detector.metadata.max_batch] for one in entered]
    for one, mine in zip(entered, sizes, strict=True):
        one.batches_ms = {size: [] for size in mine}
    began = time.monotonic()
    for turn in range(-1, rounds):  # the first one warms up: every size has its own buffers
        report("batches", max(0, turn), rounds)
        for place, size in _in_turns(sizes):
            if stop.is_set() or (turn > 0 and time.monotonic() - began > seconds):
                return
            batch = [images[place][k % len(images[place])] for k in range(size)]
            into: dict[str, float] = {}
            with _timed(into, "batch"):
                entered[place].detector.detect_batch(batch)
            if turn >= 0:
                entered[place].batches_ms[size].append(into["batch"])


def _in_turns(sizes: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
    for size in BATCHES:
        for place, mine in enumerate(sizes):
            if size in mine:
                yield place, size
