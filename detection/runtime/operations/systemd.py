"""`Service`: tells systemd that the machine is ready, alive, and how it is, as sd_notify(3) describes it.

Without systemd (no NOTIFY_SOCKET in the environment) everything here does nothing.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)
_STATUS_EVERY_S = 2.0
_SEND_TIMEOUT_S = 1.0


class Progress:
    """Whether pictures that go into the pipeline come out of it again. From any thread.

    The pipeline calls `turned` in each turn of its loop, with or without a picture; `took` with each picture that
    goes in, and `done` when it is out: published, or dropped on purpose.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turned_s = self._moved_s = time.monotonic()
        self._inside = 0

    def turned(self) -> None:
        """The loop goes round, though there may be nothing to do."""
        self._turned_s = time.monotonic()

    def took(self) -> None:
        """A picture goes in."""
        with self._lock:
            now_s = self._turned_s = time.monotonic()
            if not self._inside:
                self._moved_s = now_s
            self._inside += 1

    def done(self) -> None:
        """A picture is out."""
        with self._lock:
            self._turned_s = self._moved_s = time.monotonic()
            self._inside = max(0, self._inside - 1)

    @property
    def stuck_s(self) -> float:
        """For how long nothing moved though it should have; about 0 while all is well, also without a camera."""
        with self._lock:
            now_s = time.monotonic()
            return max(now_s - self._turned_s, now_s - self._moved_s if self._inside else 0.0)


class Notifier:
    """Sends lines to the socket that systemd names; never raises.

    Args:
        environment: None takes the process's own.

    Attributes:
        watchdog_s: after so many seconds without a sign of life systemd restarts the service; None: never.

    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._said = False
        microseconds = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(microseconds) / 1e6 if self and ours and microseconds.isdecimal() else None

    def __bool__(self) -> bool:
        return bool(self._address) and hasattr(socket, "AF_UNIX")

    def send(self, *lines: str) -> None:
        """Send assignments such as "READY=1" as one datagram."""
        if not self:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(_SEND_TIMEOUT_S)
                to.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._address)
        except OSError as error:
            if not self._said:
                self._said = True
                _log.warning("systemd cannot be told how the machine is (%s)", error.strerror or error)


class Service:
    """A machine under systemd: READY=1, WATCHDOG=1 while pictures move, STATUS=..., STOPPING=1.

    Where nothing moves for half of WatchdogSec there is no sign of life any more, and systemd restarts the
    service; before that each thread's stack is written to the standard error.

    Args:
        progress: of the pipeline.
        status: how the machine is, in a line; for `systemctl status`.
        notifier: None takes what the environment says.

    """

    def __init__(self, progress: Progress, status: Callable[[], str], notifier: Notifier | None = None) -> None:
        self._progress = progress
        self._status = status
        self._notifier = Notifier() if notifier is None else notifier
        self._closing = threading.Event()
        self._stuck = False
        self._dumps = False
        self._thread: threading.Thread | None = None

    def ready(self) -> None:
        """Model, cameras and outputs are open; from now on pictures must move."""
        if not self._notifier or self._thread is not None:
            return
        if self._notifier.watchdog_s is not None and not faulthandler.is_enabled():
            faulthandler.enable()  # the watchdog's SIGABRT then says where each thread hangs
            self._dumps = True
        self._progress.turned()
        self._notifier.send("READY=1", f"STATUS={self._status()}")
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        watchdog_s = self._notifier.watchdog_s
        every_s = _STATUS_EVERY_S if watchdog_s is None else min(_STATUS_EVERY_S, watchdog_s / 4)
        while not self._closing.wait(every_s):
            stuck_s = self._progress.stuck_s
            if watchdog_s is not None and stuck_s > watchdog_s / 2:
                self._notifier.send(f"STATUS=stuck: nothing moved for {stuck_s:.0f} s")
                if not self._stuck:
                    _log.error("no picture moved for %.0f s: systemd will restart the service", stuck_s)
                self._stuck = True
                continue
            self._stuck = False
            alive = () if watchdog_s is None else ("WATCHDOG=1",)
            self._notifier.send(*alive, f"STATUS={self._status()}")

    def close(self) -> None:
        """The machine is being stopped; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._notifier.send("STOPPING=1", "STATUS=stopping")
        if self._thread is not None:
            self._thread.join(_SEND_TIMEOUT_S + 1)
        if self._dumps:
            faulthandler.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
