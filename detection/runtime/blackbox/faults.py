"""Which events are faults, and how often the same fault begins an incident."""

from __future__ import annotations

from detection.runtime.events import CameraStatus, Event

FAULTS = frozenset(
    {
        ("camera", CameraStatus.STALE),
        ("camera", CameraStatus.LOST),
        ("output", "behind"),
        ("output", "lost"),
        ("output", "refused"),
        ("age", "above limit"),
        ("model", "faulty"),
        ("trigger", "by hand"),
    }
)
"""(kind, status) of events around which images are saved."""


def is_fault(event: Event) -> bool:
    """Whether the images around an event are saved."""
    return (event.kind, event.status) in FAULTS


class Pauses:
    """Limits incidents of the same fault, so that one unstable camera does not use up the quota.

    Args:
        pause_s: minimum time between two incidents of the same fault of the same subject, in seconds.

    Attributes:
        skipped: faults that began no incident.

    """

    def __init__(self, pause_s: float) -> None:
        self._pause_ns = int(pause_s * 1e9)
        self._last_ns: dict[tuple[str, str], int] = {}
        self.skipped = 0

    def passes(self, event: Event) -> bool:
        """Whether a fault may begin an incident; a manual trigger always may."""
        if event.kind == "trigger":
            return True
        key = (event.kind, event.subject)
        last_ns = self._last_ns.get(key)
        if last_ns is not None and event.at_ns - last_ns < self._pause_ns:
            self.skipped += 1
            return False
        self._last_ns[key] = event.at_ns
        return True
