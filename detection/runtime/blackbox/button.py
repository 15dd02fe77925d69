"""SIGUSR1 as the button that saves the last seconds: `systemctl kill -s USR1 swath-sprayer-7`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detection.runtime.blackbox.black_box import BlackBox


@contextmanager
def triggered_by_signal(box: BlackBox) -> Iterator[None]:
    """While it lasts, SIGUSR1 makes the box save; where there are no such signals, nothing."""
    if not hasattr(signal, "SIGUSR1") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        box.ask()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
