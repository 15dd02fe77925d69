"""`PatientConnection`: connections to the dashboard, of which those that ask for nothing lock nobody out."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

WHOLE_REQUEST_S = 5.0
"""How long a connection may be there without a whole request."""

ANSWER_S = 60.0
"""How long an answer may take to be fetched."""

MAX_CONNECTIONS = 100
"""Each holds a descriptor; a browser opens up to six."""

MAX_BY_ADDRESS = 40
"""Of one viewer's address."""


class PatientConnection(H11Protocol):
    """A connection of HTTP/1.1 with limits.

    One that has sent no whole request after `WHOLE_REQUEST_S`, or does not fetch its answer, is closed. Where there
    are too many, of all or of one address, the one that has asked for nothing for longest makes room for the new one.
    """

    _free_since_s = 0.0
    _looks: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Make room, and begin to watch."""
        super().connection_made(transport)
        self._free_since_s = time.monotonic()
        self._look()
        others = [one for one in self.connections if isinstance(one, PatientConnection) and one is not self]
        mine = [one for one in others if self.client and one.client and one.client[0] == self.client[0]]
        if len(mine) >= MAX_BY_ADDRESS:
            _close_the_idlest(mine)
        elif len(others) >= MAX_CONNECTIONS:
            _close_the_idlest(others)

    def connection_lost(self, exc: Exception | None) -> None:
        """End watching."""
        super().connection_lost(exc)
        if self._looks is not None:
            self._looks.cancel()

    def on_response_complete(self) -> None:
        """From now on the next request is waited for."""
        self._free_since_s = time.monotonic()
        super().on_response_complete()

    @property
    def idle_s(self) -> float:
        """For how many seconds it has asked for nothing; negative while it is being answered."""
        waited_s = time.monotonic() - self._free_since_s
        return waited_s - ANSWER_S if self._is_answered() else waited_s

    def _is_answered(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        limit_s = 0.0 if self._is_answered() else WHOLE_REQUEST_S
        if self.idle_s >= limit_s:
            self.drop()
            return
        self._looks = self.loop.call_later(max(0.05, limit_s - self.idle_s), self._look)

    def drop(self) -> None:
        """Close it without a word."""
        self.connections.discard(self)
        self.transport.abort()


def _close_the_idlest(among: list[PatientConnection]) -> None:
    max(among, key=lambda one: one.idle_s).drop()
