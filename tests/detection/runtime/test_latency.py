from __future__ import annotations

import numpy as np
import pytest

from detection.runtime.latency import Latency


def test_percentiles_are_right_to_one_percent() -> None:
    rng = np.random.default_rng(0)
    durations = rng.lognormal(3, 1, 5000)
    latency = Latency()
    for duration in durations:
        latency.add(float(duration))
    for percent in (1, 50, 95, 99, 100):
        exact = np.percentile(durations, percent, method="inverted_cdf")
        assert exact * 0.999 <= latency.percentile_ms(percent) <= exact * 1.0101
    assert latency.max_ms == durations.max() and latency.count == 5000
    assert latency.sum_ms == pytest.approx(durations.sum())


@pytest.mark.parametrize("duration", [0.0, 1e-9, 5.0, 1e12])
def test_percentiles_of_one(duration: float) -> None:
    latency = Latency()
    latency.add(duration)
    assert latency.max_ms == duration
    assert latency.percentile_ms(50) <= latency.percentile_ms(99) <= max(duration, 0.0)
    if duration == 5.0:
        assert latency.percentile_ms(50) == 5.0


def test_a_rare_spike_is_seen_in_max_alone() -> None:
    latency = Latency()
    for _ in range(999):
        latency.add(10)
    latency.add(900)
    summary = latency.summary_ms()
    assert summary["p50"] == summary["p99"] == pytest.approx(10, rel=0.011)
    assert summary["max"] == 900
