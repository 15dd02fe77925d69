"""Protects the signal stack of a thread from libraries that change it."""

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
    """Restore the signal stack of this thread after the context, on Linux.

    OpenVINO (seen in 2026.4.1) sets a signal stack of its own for the thread that compiles a graph, and restores the
    earlier one when the graph is deleted. If two graphs are deleted in the order of their creation, the second
    restores the first one's, which is freed: the next signal that Python handles, such as Ctrl-C, ends the process.
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
