"""A reader of files that others wrote, under trial."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[], object]
Malform = Callable[[random.Random], Read]
"""One malformed input, written; calling the result reads it."""


@dataclass(frozen=True)
class Reader:
    """A reader under trial.

    Attributes:
        name: in tables.
        prepare: makes sound files in a folder; gives what malforms them.
        cost: how long a read takes, in those of the quickest: fewer are tried.

    """

    name: str
    prepare: Callable[[Path], Malform]
    cost: int = 1
