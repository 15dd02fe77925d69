"""`DutyCycle`: pauses between inferences, so that a machine without a fan keeps its speed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

_EVERY_S = 2.0
_BAND_C = 5.0
_LEAST = 0.1


class DutyCycle:
    """The fraction of the time in which the network may work.

    With a temperature limit it works all of the time until `limit_c` - 5 degrees, then less and less,
    a tenth of the time from `limit_c` on: a processor that throttles itself slows down by more, and at once.

    Args:
        share: maximum fraction of the time, above 0 to 1.
        limit_c: maximum temperature of the hottest sensor in degrees Celsius; None: not limited.
        sensors: files with a temperature in thousandths of a degree, as on Linux; None takes this machine's.

    Raises:
        ValueError: a share outside 0 to 1, or a limit where no sensor can be read.

    """

    def __init__(self, share: float = 1.0, limit_c: float | None = None, sensors: list[Path] | None = None) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"duty cycle {share:g}: must be above 0, up to 1")
        self._most = share
        self._limit_c = limit_c
        self._sensors = sorted(Path("/sys/class/thermal").glob("thermal_zone*/temp")) if sensors is None else sensors
        self._measured_s = -_EVERY_S
        self.share = share
        self.hottest_c: float | None = None
        if limit_c is not None:
            self._measure()
            if self.hottest_c is None:
                raise ValueError("a temperature limit, but no temperature sensor can be read here")

    def pause_after(self, worked_s: float, stop: threading.Event) -> None:
        """Pause after `worked_s` seconds of work for as long as the duty cycle requires, or until `stop` is set."""
        if self._limit_c is not None and time.monotonic() - self._measured_s > _EVERY_S:
            self._measure()
        if self.share < 1:
            stop.wait(worked_s * (1 / self.share - 1))

    def _measure(self) -> None:
        assert self._limit_c is not None
        self._measured_s = time.monotonic()
        found = [c for c in map(_celsius, self._sensors) if c is not None]
        self.hottest_c = max(found, default=None)
        if self.hottest_c is not None:
            room = (self._limit_c - self.hottest_c) / _BAND_C
            self.share = max(_LEAST, min(self._most, room * self._most))


def _celsius(sensor: Path) -> float | None:
    try:
        return int(sensor.read_text()) / 1000
    except (OSError, ValueError):  # a zone may be switched off
        return None
