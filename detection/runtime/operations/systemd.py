"""`Service`: reports readiness, liveness and status to systemd, by the protocol of sd_notify(3).

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

from detection.runtime.closing import Closing

_log = logging.getLogger(__name__)
_STATUS_EVERY_S = 2.0
_SEND_TIMEOUT_S = 1.0


class Heartbeat:
    """When the pipeline last made a turn; from any thread."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()

    def __call__(self) -> None:
        """The pipeline made a turn, with or without an image; `run_stream` takes this as `heartbeat`."""
        self._last_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._last_s


class Notifier:
    """Sends lines to the socket that systemd names; never raises.

    Args:
        environment: None takes the process's own.

    Attributes:
        watchdog_s: systemd restarts the service after this many seconds without WATCHDOG=1; None: never.

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
                _log.warning("the status cannot be sent to systemd (%s)", error.strerror or error)


class Service(Closing):
    """A machine under systemd: READY=1, WATCHDOG=1 while the pipeline makes turns, STATUS=..., STOPPING=1.

    A network, device or output that hangs stops the pipeline. After half of WatchdogSec WATCHDOG=1 is no longer
    sent, and systemd restarts the service; each thread's stack is then written to the standard error. A camera
    that is gone stops nothing.

    Args:
        heartbeat: of the pipeline.
        status: gives the line that `systemctl status` shows.
        notifier: None: by the environment's NOTIFY_SOCKET.

    """

    def __init__(self, heartbeat: Heartbeat, status: Callable[[], str], notifier: Notifier | None = None) -> None:
        self._heartbeat = heartbeat
        self._status = status
        self._notifier = Notifier() if notifier is None else notifier
        self._closing = threading.Event()
        self._stuck = False
        self._dumps = False
        self._thread: threading.Thread | None = None

    def ready(self) -> None:
        """Model, cameras and outputs are open; from now on the pipeline must make turns."""
        if not self._notifier or self._thread is not None:
            return
        if self._notifier.watchdog_s is not None and not faulthandler.is_enabled():
            faulthandler.enable()  # the watchdog's SIGABRT then says where each thread hangs
            self._dumps = True
        self._heartbeat()
        self._notifier.send("READY=1", f"STATUS={self._line()}")
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        watchdog_s = self._notifier.watchdog_s
        every_s = _STATUS_EVERY_S if watchdog_s is None else min(_STATUS_EVERY_S, watchdog_s / 4)
        while not self._closing.wait(every_s):
            silent_s = self._heartbeat.silent_s
            if watchdog_s is not None and silent_s > watchdog_s / 2:
                self._notifier.send(f"STATUS=stuck: no progress for {silent_s:.0f} s")
                if not self._stuck:
                    _log.error(
                        "the pipeline has made no progress for %.0f s: systemd will restart the service", silent_s
                    )
                self._stuck = True
                continue
            self._stuck = False
            alive = () if watchdog_s is None else ("WATCHDOG=1",)
            self._notifier.send(*alive, f"STATUS={self._line()}")

    def _line(self) -> str:
        try:
            return self._status()
        except Exception:  # a faulty status line must not look like a machine that hangs
            _log.exception("the status line failed")
            return "running"

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
