"""FFmpeg's options for one opening: OpenCV takes them from an environment variable, which all threads share."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
DEFAULT_OPTIONS = "rtsp_flags;prefer_tcp"
"""What OpenCV itself takes where the variable is not set."""

USERS_OPTIONS = os.environ.get(_VARIABLE)
"""What the user set before Swath was imported: it has precedence, for all cameras, and is never changed."""

if USERS_OPTIONS is None:
    # From now on the variable exists and only its value changes. Adding or removing a variable moves the
    # table that another thread's getenv may be reading, which has crashed programs.
    os.environ[_VARIABLE] = DEFAULT_OPTIONS

_READ_WITHIN_S = 1.0
"""OpenCV reads the variable first, within microseconds. After this time it certainly has, and another
camera need not wait for this one, which may take seconds to fail."""

_changed = threading.Condition()
_openings: dict[object, tuple[str, float]] = {}


@contextmanager
def ffmpeg_options(options: str) -> Iterator[None]:
    """The next capture that this thread opens uses these options.

    Captures with the same options are opened in parallel. One with other options waits until earlier ones have
    read theirs, for at most `_READ_WITHIN_S` seconds.

    Args:
        options: "name;value|name;value", as OpenCV writes them.

    """
    if USERS_OPTIONS is not None:
        yield
        return
    opening = object()
    with _changed:
        while waits := [
            until_s - time.monotonic()
            for others, until_s in _openings.values()
            if others != options and until_s > time.monotonic()
        ]:
            _changed.wait(max(*waits, 0.001))
        os.environ[_VARIABLE] = options
        _openings[opening] = options, time.monotonic() + _READ_WITHIN_S
    try:
        yield
    finally:
        with _changed:
            del _openings[opening]
            if not _openings:
                os.environ[_VARIABLE] = DEFAULT_OPTIONS
            _changed.notify_all()
