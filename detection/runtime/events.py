"""`Event`: what happens besides images: a camera is lost, an output falls behind, a model was replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from detection.runtime.errors import one_line


class CameraStatus(StrEnum):
    """Status of a camera.

    STARTING: being opened for the first time. LIVE: images arrive. STALE: none has arrived for longer than
    normal; the connection still exists. LOST: the connection is broken or hangs, it is being reopened.
    ENDED: no more images (the end of a recording, closed, or given up).
    """

    STARTING = "starting"
    LIVE = "live"
    STALE = "stale"
    LOST = "lost"
    ENDED = "ended"


_WARNINGS = frozenset((CameraStatus.LOST, CameraStatus.STALE, "behind", "refused", "failed", "above limit", "faulty"))


@dataclass(frozen=True)
class Event:
    """An event of a camera, an output, the model or the machine.

    Attributes:
        kind: what it concerns: "camera", "output", "model", "recording", "machine".
        subject: which one: the camera's or output's name, the model's path; printable; never holds a password.
        status: one word: a `CameraStatus`, "behind", "reconnected", "swapped", "refused", ...
        message: a sentence for the user; may be empty; printable, whatever servers say; never holds a password.
        at_ns: `time.monotonic_ns()`, the clock of `Frame.captured_ns`.
        at_unix_s: seconds since 1970, for logs.

    """

    kind: str
    subject: str
    status: str
    message: str = ""
    at_ns: int = field(default_factory=time.monotonic_ns)
    at_unix_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", one_line(self.subject))
        object.__setattr__(self, "message", one_line(self.message))

    @property
    def is_warning(self) -> bool:
        """Whether something is lost, late or refused, and a person should know."""
        return self.status in _WARNINGS

    def to_json(self) -> dict[str, Any]:
        """The event as plain Python, for JSON."""
        return {**vars(self), "at_unix_s": round(self.at_unix_s, 3)}


Listener = Callable[[Event], None]
"""Takes an event; called from any thread, must return at once and not raise."""


def ignore_event(event: Event) -> None:
    """A listener that does nothing: the default where no listener is given."""
