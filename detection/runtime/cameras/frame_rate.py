"""`FrameRateLimiter`: which images of many are taken, so that it is at most so many a second."""

from __future__ import annotations

import math

_TICK_S = 5e-4
"""Time stamps are whole ticks of some clock: an image this little too early is on time."""


class FrameRateLimiter:
    """Takes images evenly over time.

    Args:
        max_fps: at most so many a second; None takes all.

    """

    def __init__(self, max_fps: float | None) -> None:
        self._period_s = None if max_fps is None else 1 / max_fps
        self._due_s = -math.inf

    def accepts(self, time_s: float) -> bool:
        """Whether the image of this time is to be taken; times must not go back."""
        if self._period_s is None:
            return True
        if time_s < self._due_s - _TICK_S:
            return False
        # From when it was due, not from when it came: or a camera of 30 would give 10 where 12 are asked for.
        punctual = self._due_s > time_s - self._period_s
        self._due_s = (self._due_s if punctual else time_s) + self._period_s
        return True
