"""`StreamClock`: how late an image arrived, from the stream's own time stamps."""

from __future__ import annotations

_DRIFT = 200e-6
"""How far two quartz clocks may run apart, in seconds a second: 100 ppm each."""

_SETTLE_S = 2.0
"""How long a new connection may take to catch up with images sent before it was opened."""


class StreamClock:
    """Compares when images arrive with the time stamps they carry.

    The smallest difference so far belongs to an image that was not delayed; any other is late by the excess
    of its own difference. The delay that even the fastest image has is not included: it is constant, and no
    clock here can measure it. The smallest difference may rise by the drift of two clocks and no faster, so
    that a connection that keeps falling behind is noticed.

    A new connection starts with images that were buffered: they arrive faster than they were captured.
    Until that ends lateness cannot be measured, and these images are known to be old.
    """

    def __init__(self) -> None:
        self._started_s: float | None = None
        self._settled = False
        self._before: tuple[float, float] | None = None
        self._least_s = 0.0

    def late_s(self, arrived_s: float, stream_s: float) -> float | None:
        """By how many seconds an image is late; None for the backlog of a new connection.

        Args:
            arrived_s: when it came, on this machine's monotonic clock.
            stream_s: its own time stamp.

        """
        offset_s = arrived_s - stream_s
        before, self._before = self._before, (arrived_s, stream_s)
        if before is None or self._started_s is None or stream_s < before[1]:
            # The first, or the stream's time stamps started again.
            self._started_s, self._settled, self._least_s = arrived_s, False, offset_s
            return None
        waited_s, apart_s = arrived_s - before[0], stream_s - before[1]
        self._least_s = min(offset_s, self._least_s + _DRIFT * waited_s)
        if not self._settled:
            caught_up = apart_s > 0 and waited_s > 0.5 * apart_s
            if not caught_up and arrived_s - self._started_s < _SETTLE_S:
                return None
            self._settled = True
            self._least_s = offset_s
        return offset_s - self._least_s
