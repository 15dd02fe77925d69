"""The stack that signals are handled on, kept from libraries that change it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StackT(ctypes.Structure):
    """Linux's `stack_t`."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give this thread, on Linux, the signal stack back that it had before.

    OpenVINO (seen in 2026.4.1) gives the thread that compiles a graph a signal stack of its own, and puts the earlier
    one back when the graph goes. Of two graphs that go in the order in which they came, the second puts back the
    first one's, which is freed: the next signal that Python handles, Ctrl-C for one, ends the process.
    """
    if sys.platform != "linux":
        yield
        return
    change: Any = ctypes.CDLL(None).sigaltstack
    before = StackT()
    known = change(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            change(ctypes.byref(before), None)
