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


def plain(name: str) -> str:
    """A camera's name as a part of a file's or topic's name: what these may not hold becomes "_"."""
    return re.sub(r"[^\w.-]+", "_", name)
