"""`Contestant`: one model on one provider, and its measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from detection.runtime.bench.cold_start import ColdStart
from detection.runtime.detector import Detector

STAGES = ("decode", "letterbox", "infer", "finish", "call", "bare", "age")
"""What is timed: decoding of the image, the detector's three stages, `Detector.__call__`, `Detector.bare_run`, and
decoding and call together. All in ms. The three stages, the call and the bare run are separate calls."""


@dataclass(eq=False)
class Contestant:
    """One model on one provider, and its measurements.

    Attributes:
        model: the file.
        provider, threads: as given; None is the CPU, and the backend's own choice.
        detector: the opened model.
        samples_ms: by `STAGES`; the same index in each list is the same round. `decode` and `age` are nan where the
            image had been decoded ahead.
        batches_ms: durations of `Detector.detect_batch` by number of images.
        cold: starts in separate processes; a string is the reason why one failed.
        joules: of every whole call, where energy can be read.

    """

    model: Path
    provider: str | None
    threads: int | None
    detector: Detector
    samples_ms: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    batches_ms: dict[int, list[float]] = field(default_factory=dict)
    cold: list[ColdStart | str] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    @property
    def runs(self) -> int:
        """Rounds that were completed."""
        return len(self.samples_ms["call"])

    @property
    def overhead_percent(self) -> float:
        """By how much the whole call is longer than the bare run: the median over rounds of their ratio, minus 1."""
        calls, bare = np.array(self.samples_ms["call"]), np.array(self.samples_ms["bare"])
        return 100 * (float(np.median(calls / bare)) - 1)

    @property
    def images_per_s(self) -> float:
        """Throughput without batches: the number of calls divided by their total time."""
        calls = self.samples_ms["call"]
        return 1000 * len(calls) / sum(calls)

    def ratio_to(self, other: Contestant) -> float:
        """The median over rounds of this call's duration divided by that of `other` in the same round."""
        mine, others = np.array(self.samples_ms["call"]), np.array(other.samples_ms["call"])
        return float(np.median(mine / others))

    def throughput(self) -> dict[int, float]:
        """Images per second by batch size, from the median duration."""
        return {size: 1000 * size / float(np.median(taken)) for size, taken in self.batches_ms.items() if taken}


def percentile_ms(samples_ms: Sequence[float], percent: float) -> float:
    """The smallest sample that `percent` percent of all do not exceed (nearest rank); nan without samples."""
    if not len(samples_ms):
        return math.nan
    return sorted(samples_ms)[max(1, math.ceil(len(samples_ms) * percent / 100)) - 1]


def summary_ms(samples_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of the samples that are numbers, exact; empty without any."""
    known = [value for value in samples_ms if not math.isnan(value)]
    if not known:
        return {}
    return {**{f"p{p}": percentile_ms(known, p) for p in (50, 95, 99)}, "max": max(known)}


def contestants(
    models: Sequence[Path], providers: Sequence[str] = (), threads: Sequence[int] = ()
) -> list[Contestant]:
    """Open every model on every provider with every number of threads.

    Raises:
        SwathError: one of them cannot be opened.

    """
    some_provider: Sequence[str | None] = providers or [None]
    some_threads: Sequence[int | None] = threads or [None]
    return [
        Contestant(
            model, provider, count, Detector(model, providers=None if provider is None else [provider], threads=count)
        )
        for model, provider, count in product(models, some_provider, some_threads)
    ]
