"""One malformed input given to a reader: it is read, or refused by one line; anything else is a find."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.errors import DataError
from detection.runtime.errors import SwathError

HANG_S = 10.0
_LONGEST = 2100
_INTERNAL = re.compile(
    r"errors\.pydantic\.dev|Traceback|function-(after|before|wrap|plain)|instance of _?[A-Z]|tagged-union"
    r"|lax-or-strict|constrained-|is-instance|dict\[|Value error|validation error|<class |object at 0x|NoneType"
)


@dataclass
class Outcome:
    """What came of many inputs of one reader; `finds` hold what should not be."""

    counts: Counter[str] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def tried(self) -> int:
        return sum(self.counts.values())


class Hang(BaseException):
    """It took longer than `HANG_S`."""


def attempt(outcome: Outcome, label: str, read: Callable[[], object]) -> None:
    """Read once, and count what came of it; an AssertionError is of the reader's own account: something is lost."""
    begun_s = time.monotonic()
    try:
        with _bounded(HANG_S), _quiet():
            read()
        result = "read"
    except (SwathError, DataError) as error:
        result = "refused"
        if fault := _unclear(str(error)):
            result = "unclear"
            outcome.finds.append(f"{label}: {fault}: {str(error)[:300]!r}")
    except Hang:
        result = "hang"
        outcome.finds.append(f"{label}: took longer than {HANG_S:g} s")
    except AssertionError as error:
        result = "lost"
        outcome.finds.append(f"{label}: {str(error)[:300]}")
    except BaseException as error:
        result = "traceback"
        last = traceback.extract_tb(error.__traceback__)
        where = next((f"{f.filename}:{f.lineno}" for f in reversed(last) if "/site-packages/" not in f.filename), "")
        outcome.finds.append(f"{label}: {type(error).__name__}: {str(error)[:200]!r} at {where}")
    outcome.counts[result] += 1
    outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - begun_s)


def _unclear(message: str) -> str:
    """Why a message is not one clear line; empty where it is."""
    if not message.isprintable():
        return "control characters"
    if len(message) < 15:
        return "says too little"
    if len(message) > _LONGEST:
        return "too long"
    if _INTERNAL.search(message):
        return "internals of a library"
    return ""


@contextlib.contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(number: int, frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without log lines and warnings, and without what C libraries write to the process's standard error."""
    logging.disable(logging.CRITICAL)
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            logging.disable(logging.NOTSET)


def rewritten(path: Path, content: bytes) -> Path:
    """The path, its file replaced: never an earlier input's rest."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path
