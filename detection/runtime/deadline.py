"""`Deadline`: an exchange over the network as a whole, however slowly the other side drips."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from detection.runtime.closing import Closing


class Deadline(Closing):
    """Ends the connections that are made by it, once its time has passed; a context manager.

    A socket's own timeout counts from byte to byte, so that a server that sends one byte a second would hold its
    client for ever. After the deadline reads and writes fail at once.

    Args:
        within_s: how long the exchange may take.

    Attributes:
        passed: whether it was reached.

    """

    def __init__(self, within_s: float) -> None:
        self.passed = False
        self._until_s = time.monotonic() + within_s
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(within_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def connect(
        self, address: tuple[str, int], timeout_s: Any = None, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        """As `socket.create_connection`.

        Raises:
            OSError: there is no connection in time.

        """
        left_s = max(0.001, self._until_s - time.monotonic())
        within_s = min(left_s, timeout_s) if isinstance(timeout_s, int | float) else left_s
        made = socket.create_connection(address, within_s, source_address)
        with self._lock:
            # of its own: the connection's descriptor changes hands where TLS is put over it
            self._watched.append(socket.socket(fileno=os.dup(made.fileno())))
            if self.passed:
                self._shut()
        return made

    def check(self) -> None:
        """Call it after a read: one that the deadline ended looks like the connection's own end.

        Raises:
            TimeoutError: the deadline has passed.

        """
        if self.passed:
            raise TimeoutError

    def hang_up(self) -> None:
        """End the connections made so far: a server of one client at a time waits for that to take the next."""
        with self._lock:
            self._shut()
            self._forget()

    def close(self) -> None:
        """Leave the connections to themselves."""
        self._timer.cancel()
        with self._lock:
            self._forget()

    def _end(self) -> None:
        with self._lock:
            self.passed = True
            self._shut()

    def _forget(self) -> None:
        for watched in self._watched:
            watched.close()
        self._watched.clear()

    def _shut(self) -> None:
        for watched in self._watched:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)
