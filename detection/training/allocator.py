"""How the process gets memory from the system, where that costs time."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks for the next step instead of handing them back to the kernel.

    A training step on CPU frees and takes the same feature maps again; each time the kernel would clear their
    pages. Keeping them makes a step of `fcos_lite` at 480 x 640 take about four fifths of the time. The process
    then stays as large as its largest step was.

    Returns:
        Whether it worked, which it does with glibc only.

    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def hand_back_freed_memory() -> None:
    """Return the memory that is free now to the system, after the process ran out of memory."""
    if sys.platform == "linux":
        malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if malloc_trim is not None:
            malloc_trim(0)
