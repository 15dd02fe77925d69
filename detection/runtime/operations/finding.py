"""`Finding`: what a check found out about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        subject: the thing, such as "cv2" or "camera left".
        state: `wrong` must be mended, `note` is good to know.
        message: what was found; where something is wrong, what to do.

    """

    subject: str
    state: State
    message: str

    @classmethod
    def of(cls, subject: str, fault: str, well: str) -> Finding:
        """A fault where there is one, else what is well."""
        return cls(subject, "wrong", fault) if fault else cls(subject, "ok", well)
