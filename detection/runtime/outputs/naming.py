"""File names of a stream: `{date}` and `{time}` in them, and names of cameras."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path


def dated(path: Path, when: datetime) -> Path:
    """`{date}` in the name -> 2026-05-01, local time; a path without it stays as it is."""
    return Path(str(path).replace("{date}", when.strftime("%Y-%m-%d")))


def timed(path: Path, when: datetime) -> Path:
    """`{time}` in the name -> 06-30-00, local time, and `{date}` as in `dated`."""
    return Path(str(dated(path, when)).replace("{time}", when.strftime("%H-%M-%S")))


def unused(path: Path) -> Path:
    """The path, or with a number where a file is there: a clock may be set back, or begin in 1970 at each start."""
    free, count = path, 1
    while free.exists():
        count += 1
        free = path.with_stem(f"{path.stem}-{count}")
    return free


def plain(name: str) -> str:
    """A camera's name as a part of a file's or topic's name: what these may not hold becomes "_"."""
    return re.sub(r"[^\w.-]+", "_", name)
