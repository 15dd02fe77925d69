"""`Link`: whether the other side of an output is there; each change is said once. And its address."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener

FIRST_PAUSE_S = 0.5
"""Between two attempts to connect; doubled with each one that fails."""

LONGEST_PAUSE_S = 15.0
"""So a broker or server that comes back is found again within this time, give or take a fifth."""


class Link:
    """The state of a connection; a change is told to the listener, a repetition is not.

    Args:
        subject: the output's name in events.
        listener: gets events of kind "output" with the status "connected" (the first time), "lost",
            "refused" (it is there and does not want us) or "reconnected".

    """

    def __init__(self, subject: str, listener: Listener) -> None:
        self._subject = subject
        self._listener = listener
        self._status = ""
        self._up_since_s: float | None = None
        self._was_up = False
        self._failures = 0

    def up(self, message: str) -> None:
        """An attempt went well."""
        if self._up_since_s is not None:
            return
        self._up_since_s = time.monotonic()
        self._say("reconnected" if self._was_up else "connected", message)
        self._was_up = True

    def down(self, status: str, message: str) -> None:
        """An attempt failed, or what was there is gone.

        Args:
            status: "lost" or "refused".
            message: a sentence for people, without password.

        """
        # One that throws us out as soon as we are in is not asked more often than one that is off.
        if self._up_since_s is not None and time.monotonic() - self._up_since_s > LONGEST_PAUSE_S:
            self._failures = 0
        self._failures += 1
        self._up_since_s = None
        if status != self._status:
            self._say(status, message)

    def pause_s(self) -> float:
        """How long to wait before the next attempt; a little different each time."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
        return pause_s * random.uniform(0.8, 1.2)  # or a field's robots would all come back at once

    def _say(self, status: str, message: str) -> None:
        self._status = status
        self._listener(Event("output", self._subject, status, message))


def parse_address(url: str, schemes: Sequence[str], form: str) -> SplitResult:
    """Take a URL apart and refuse what cannot be meant.

    Args:
        url: as the user wrote it.
        schemes: that are known, lower case.
        form: how such a URL looks, for the message.

    Raises:
        OutputError: another scheme, no host, a port that is none, or a password with characters
            that end it. The message does not repeat the URL: who knows where its password begins.

    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise OutputError(
            f"{form}: its host or port cannot be read; write @ / ? # in user and password as %40 %2F %3F %23"
        ) from None
    if parts.scheme not in schemes:
        raise OutputError(f"{form}: an address begins with {' or '.join(f'{s}://' for s in schemes)}")
    if "@" in parts.path + parts.query + parts.fragment:
        raise OutputError(f"{form}: write @ / ? # in user and password as %40 %2F %3F %23")
    if not parts.hostname or port == 0:
        raise OutputError(f"{form}: the address names no {'port' if parts.hostname else 'host'}")
    return parts


def unquote_of(text: str | None) -> str | None:
    """User or password as they are meant, None where there is none."""
    return None if text is None else unquote(text)
