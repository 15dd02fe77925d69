"""`Latency`: percentiles of durations in a stream that runs for weeks, in constant memory."""

from __future__ import annotations

import math

import numpy as np

_LOWEST_MS = 1e-3
_STEP = 1.01
_BINS = math.ceil(math.log(1e7 / _LOWEST_MS) / math.log(_STEP))  # up to 10,000 s


class Latency:
    """A histogram of durations with bins 1 % wide, from a microsecond to hours.

    Percentiles are accurate to 1 %; count, mean and maximum are exact. (A list of all durations would
    take 80 MB per day and camera, a window of the last ones would miss an earlier spike.)
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self.count = 0
        self.sum_ms = 0.0
        self.max_ms = 0.0

    def add(self, duration_ms: float) -> None:
        """Count one duration, in milliseconds, 0 or more."""
        place = int(math.log(max(duration_ms, _LOWEST_MS) / _LOWEST_MS) / math.log(_STEP))
        self._counts[min(place, _BINS - 1)] += 1
        self.count += 1
        self.sum_ms += duration_ms
        self.max_ms = max(self.max_ms, duration_ms)

    def percentile_ms(self, percent: float) -> float:
        """The `percent`-th percentile of the durations, 0.0 before the first."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        # The bin's upper edge: never an underestimate. The maximum is exact.
        return min(_LOWEST_MS * _STEP ** (place + 1), self.max_ms)

    def summary_ms(self) -> dict[str, float]:
        """p50, p95, p99 and max in milliseconds, rounded to a microsecond."""
        values = {f"p{p}": self.percentile_ms(p) for p in (50, 95, 99)}
        return {k: round(v, 3) for k, v in {**values, "max": self.max_ms}.items()}
