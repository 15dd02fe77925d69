"""SIGUSR1 triggers the black box: `systemctl kill -s USR1 swath-sprayer-7`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detection.runtime.blackbox.black_box import BlackBox


@contextmanager
def triggered_by_signal(box: BlackBox) -> Iterator[None]:
    """Within the context, SIGUSR1 triggers the black box; no effect where there are no such signals."""
    if not hasattr(signal, "SIGUSR1") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        box.request()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
