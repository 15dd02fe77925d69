"""Ctrl-C that lets current work finish and files be closed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that is set by the first SIGINT or SIGTERM; the second has its usual effect."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # the only one that can handle signals
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: Any) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
