"""`Backoff`: how long to wait before the next attempt."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double from attempt to attempt, each shortened by chance to between a half and the whole.

    The chance keeps many cameras behind one switch from all calling at the same moment.

    Args:
        first_s: the longest first wait.
        cap_s: the longest of all.

    """

    def __init__(self, first_s: float, cap_s: float) -> None:
        self._first_s = first_s
        self._cap_s = cap_s
        self._failures = 0

    def next_s(self) -> float:
        """The wait after one more failure."""
        # Capped before it is computed: 2 ** 2000 is more than a float holds.
        whole_s = min(self._cap_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return whole_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self._failures = 0
