"""`Health`: the state of an output, with one event for each change."""

from __future__ import annotations

import time

from detection.runtime.events import Event

HANGS_S = 10.0
"""Duration of one call after which an output counts as lost."""

CALM_S = 5.0
"""Time without a dropped frame after which an output counts as recovered."""


class Health:
    """The state of an output: well, behind (too slow) or lost (it fails or hangs). Not thread-safe.

    Args:
        name: of the output, in events.

    """

    def __init__(self, name: str) -> None:
        self.dropped = 0
        self._name = name
        self._trouble = ""
        self._reported = 0
        self._dropped_at_s = 0.0

    def drop(self, busy_s: float) -> Event | None:
        """Count a dropped frame.

        Args:
            busy_s: for how long the output has been in one call.

        Returns:
            The event to publish, the first time.

        """
        self.dropped += 1
        self._dropped_at_s = time.monotonic()
        if self._trouble != "lost" and busy_s > HANGS_S:
            return self._turn("lost", f"hangs for {busy_s:.0f} s")
        if not self._trouble:
            return self._turn("behind", "is too slow: its oldest frames are dropped")
        return None

    def fail(self, reason: str) -> Event | None:
        """The output raised an error; returns the event to publish, the first time."""
        self._dropped_at_s = time.monotonic()
        return None if self._trouble == "lost" else self._turn("lost", reason)

    def recover(self) -> Event | None:
        """The output's queue is empty; returns the event to publish where it has been well for long enough."""
        if not self._trouble or time.monotonic() - self._dropped_at_s < CALM_S:
            return None
        missing, self._reported = self.dropped - self._reported, self.dropped
        return self._turn("", f"{missing} frames are missing")

    def _turn(self, trouble: str, message: str) -> Event:
        self._trouble = trouble
        return Event("output", self._name, trouble or "recovered", message)
