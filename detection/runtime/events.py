"""`Event`: what happens beside the images: a camera is lost, an output is behind, a model was changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class CameraStatus(StrEnum):
    """How a camera is.

    STARTING: being opened for the first time. LIVE: images come. STALE: none came for longer than it
    should take; the connection stands. LOST: the connection is gone or hangs, it is being opened again.
    ENDED: nothing more will come (a recording is through, the stream was closed, it was given up).
    """

    STARTING = "starting"
    LIVE = "live"
    STALE = "stale"
    LOST = "lost"
    ENDED = "ended"


_WARNINGS = frozenset((CameraStatus.LOST, CameraStatus.STALE, "behind", "refused", "failed", "above limit"))


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: of what: "camera", "output", "model", "recording", "machine".
        subject: which: the camera's or output's name, the model's path; never holds a password.
        status: in a word: a `CameraStatus`, "behind", "reconnected", "swapped", "refused", ...
        message: in a sentence for people; may be empty; never holds a password.
        at_ns: `time.monotonic_ns()`, the clock of `Frame.captured_ns`.
        at_unix_s: seconds since 1970, for people and logs.

    """

    kind: str
    subject: str
    status: str
    message: str = ""
    at_ns: int = field(default_factory=time.monotonic_ns)
    at_unix_s: float = field(default_factory=time.time)

    @property
    def is_warning(self) -> bool:
        """Whether something is lost, late or refused, and a person should know."""
        return self.status in _WARNINGS

    def to_json(self) -> dict[str, Any]:
        """The same as plain Python."""
        return {**vars(self), "at_unix_s": round(self.at_unix_s, 3)}


Listener = Callable[[Event], None]
"""Takes an event; called from any thread, must return at once and not raise."""


def ignore_event(event: Event) -> None:
    """A listener that does nothing: the default where no listener is given."""
