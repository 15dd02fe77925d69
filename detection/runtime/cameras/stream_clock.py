"""`StreamClock`: how late an image arrived, told by the stream's own time stamps."""

from __future__ import annotations

_DRIFT = 200e-6
"""How far two quartz clocks may run apart, in seconds a second: 100 ppm each."""

_SETTLE_S = 2.0
"""How long a new connection may be catching up on what was sent before we listened."""


class StreamClock:
    """Compares when images arrive with the time stamps they carry.

    The least difference seen is an image that came straight away; any other is late by what its own
    difference has more. What is left out is what even the fastest image takes: a constant that no
    clock here can see. The least difference may creep up by the drift of two clocks, no faster, so
    that a connection that falls behind for good cannot pass as punctual.

    A new connection starts with images that waited somewhere: they come faster than they were taken.
    Until that ends nothing is known, and they are known to be old.
    """

    def __init__(self) -> None:
        self._started_s: float | None = None
        self._settled = False
        self._before: tuple[float, float] | None = None
        self._least_s = 0.0

    def late_s(self, arrived_s: float, stream_s: float) -> float | None:
        """How many seconds an image is late; None where it belongs to the backlog of a new connection.

        Args:
            arrived_s: when it came, on this machine's monotonic clock.
            stream_s: its own time stamp.

        """
        offset_s = arrived_s - stream_s
        before, self._before = self._before, (arrived_s, stream_s)
        if before is None or self._started_s is None or stream_s < before[1]:
            # The first, or the stream began to count anew.
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
