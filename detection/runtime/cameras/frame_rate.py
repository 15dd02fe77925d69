"""`FrameRateLimiter`: takes at most so many images per second."""

from __future__ import annotations

import math

_TICK_S = 5e-4
"""Time stamps are whole ticks of some clock: an image earlier by less than this is on time."""


class FrameRateLimiter:
    """Selects images evenly over time.

    Args:
        max_fps: maximum number per second; None takes all.

    """

    def __init__(self, max_fps: float | None) -> None:
        self._period_s = None if max_fps is None else 1 / max_fps
        self._due_s = -math.inf

    def accepts(self, time_s: float) -> bool:
        """Whether to take the image of this time; times must not decrease."""
        if self._period_s is None:
            return True
        if time_s < self._due_s - _TICK_S:
            return False
        # From when it was due, not from when it came: otherwise a camera of 30 fps would give 10 for a limit of 12.
        punctual = self._due_s > time_s - self._period_s
        self._due_s = (self._due_s if punctual else time_s) + self._period_s
        return True
