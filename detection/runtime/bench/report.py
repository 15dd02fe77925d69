"""A measurement of `swath bench` as JSON; `docs/robot/bench.md` explains every key."""

from __future__ import annotations

import math
import os
import platform
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import detection
from detection.runtime.bench.bench import Measurement
from detection.runtime.bench.cold_start import ColdStart
from detection.runtime.bench.contestant import STAGES, Contestant, percentile_ms, summary_ms
from detection.runtime.bench.safe_speed import SafeSpeed, Sprayer, highest_safe_speed

SCHEMA = 1
"""Of the JSON; raised when a key changes its meaning or goes."""


def to_json(measured: Measurement, sprayer: Sprayer, images: dict[str, Any]) -> dict[str, Any]:
    """A measurement as JSON: stable keys, times in ms or s as their names say, null where something is unknown.

    Args:
        measured: with at least one round.
        sprayer: the machine around the detector.
        images: `source`, None for synthetic images, and `sizes_hw`.

    """
    first = measured.contestants[0]
    return {
        "schema": SCHEMA,
        "swath": detection.__version__,
        "machine": machine_facts(),
        "images": images,
        "ended_by": measured.ended_by,
        "sprayer": asdict(sprayer),
        "contestants": [_one(one, first, measured, sprayer) for one in measured.contestants],
    }


def _one(one: Contestant, first: Contestant, measured: Measurement, sprayer: Sprayer) -> dict[str, Any]:
    metadata = one.detector.metadata
    meter, joules = measured.energy, statistics.fmean(one.joules) if one.joules else None
    return {
        "model": str(one.model),
        "preset": metadata.preset,
        "precision": metadata.precision,
        "input_size_hw": list(metadata.input_size_hw),
        "provider": one.provider or "cpu",
        "threads": one.threads,
        "runs_on": one.detector.runs_on,
        "runs": one.runs,
        "latency_ms": {stage: _rounded(summary_ms(one.samples_ms[stage])) or None for stage in STAGES},
        "overhead_percent": round(one.overhead_percent, 2),
        "ratio_to_first": round(one.ratio_to(first), 4),
        "images_per_s": round(one.images_per_s, 2),
        "images_per_s_by_batch": {str(size): round(rate, 2) for size, rate in one.throughput().items()},
        "cold_start": _cold_json(one),
        "energy": {"joules_per_image": joules, "measures": meter.measures, "reason": meter.reason or None},
        "safe_speed": _rounded(asdict(safe_speed(one, sprayer))),
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


def _cold_json(one: Contestant) -> dict[str, Any]:
    starts = [start for start in one.cold if isinstance(start, ColdStart)]
    reasons = [start for start in one.cold if isinstance(start, str)]
    middle = median_start(one)
    return {
        "median": None if middle is None else {**_rounded(asdict(middle)), "total_s": round(middle.total_s, 4)},
        "totals_s": [round(start.total_s, 4) for start in starts],
        "reason": reasons[0] if reasons else None,
    }


def median_start(one: Contestant) -> ColdStart | None:
    """The cold start of median length (the shorter of two); its parts add up, as medians of parts would not."""
    starts = sorted((s for s in one.cold if isinstance(s, ColdStart)), key=lambda s: s.total_s)
    return starts[(len(starts) - 1) // 2] if starts else None


def safe_speed(one: Contestant, sprayer: Sprayer) -> SafeSpeed:
    """The highest safe speed by the p99 of decoding, where it was measured, and the whole call."""
    known = [age for age in one.samples_ms["age"] if not math.isnan(age)]
    return highest_safe_speed(percentile_ms(known or one.samples_ms["call"], 99), sprayer)


def machine_facts() -> dict[str, Any]:
    """System, processor, cores that may be used, and versions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": names[0] if names else platform.processor(),
        "cores": cores,
        "python": platform.python_version(),
    }
