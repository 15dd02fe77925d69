"""`Link`: the state of an output's connection, with an event for each change; `parse_address`: its URL."""

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
"""A broker or server that comes back is found again within this time, plus a fifth at most."""


class Link:
    """The state of a connection; each change is an event, a repetition is not.

    Args:
        subject: the output's name in events.
        listener: receives events of kind "output" with the status "connected" (the first time), "lost",
            "refused" (it is there and refuses us) or "reconnected".

    """

    def __init__(self, subject: str, listener: Listener) -> None:
        self._subject = subject
        self._listener = listener
        self._status = ""
        self._up_since_s: float | None = None
        self._was_up = False
        self._failures = 0

    def up(self, message: str) -> None:
        """An attempt succeeded."""
        if self._up_since_s is not None:
            return
        self._up_since_s = time.monotonic()
        self._publish("reconnected" if self._was_up else "connected", message)
        self._was_up = True

    def down(self, status: str, message: str) -> None:
        """An attempt failed, or the connection is gone.

        Args:
            status: "lost" or "refused".
            message: a sentence for people, without passwords.

        """
        # A server that closes each connection at once is not tried more often than one that is off.
        if self._up_since_s is not None and time.monotonic() - self._up_since_s > LONGEST_PAUSE_S:
            self._failures = 0
        self._failures += 1
        self._up_since_s = None
        if status != self._status:
            self._publish(status, message)

    def pause_s(self) -> float:
        """How long to wait before the next attempt; a little different each time."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10))
        return pause_s * random.uniform(0.8, 1.2)  # so that a field's robots do not all reconnect at once

    def _publish(self, status: str, message: str) -> None:
        self._status = status
        self._listener(Event("output", self._subject, status, message))


def parse_address(url: str, schemes: Sequence[str], form: str) -> SplitResult:
    """Split a URL, and refuse an invalid one.

    Args:
        url: as the user typed it.
        schemes: that are known, lower case.
        form: how such a URL looks, for the message.

    Raises:
        OutputError: another scheme, no host, an invalid port, or a password with unescaped
            delimiters. The message does not repeat the URL, since nobody knows where its password begins.

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
    """User or password without percent-encoding; None where there is none."""
    return None if text is None else unquote(text)
