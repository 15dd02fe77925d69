"""`Backoff`: how long to wait before the next attempt to connect."""

from __future__ import annotations

import random


class Backoff:
    """Exponential backoff with jitter: waits that double with each attempt, times a random factor of 0.5 to 1.

    The jitter keeps many cameras behind one switch from reconnecting at the same moment.

    Args:
        first_s: maximum of the first wait.
        cap_s: maximum of all waits.

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
        """Start again at the first wait, after a success."""
        self._failures = 0
