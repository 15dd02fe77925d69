"""Names of the version before, in files that outlive it: read for one minor version more.

Each kind of file has its table here, old name -> new name, and `renamed` applies one. What was read by an old name
is said once a file, in one line that gives the new name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)

RECORDING = {"looks": "slices"}
"""Keys of a black box's `recording.json`, schema 1."""

RECORDED_FRAME = {"picture": "image"}
"""Keys of a line of its `frames.jsonl`, schema 1. The value stays: the images lie in `pictures/` as it says."""

MACHINE_MODEL = {"unproved": "unverified"}
"""Keys of the section `model` of a machine's YAML."""


def renamed(content: Mapping[str, Any], names: Mapping[str, str], where: str | None = None) -> dict[str, Any]:
    """The same mapping with old names replaced; a new name that is there already wins.

    Args:
        content: as it was read.
        names: old name -> new name, one of the tables above.
        where: the file, for the line that is logged; None logs nothing (the file's other lines have been named).

    """
    old = [name for name in names if name in content]
    if old and where is not None:
        told = ", ".join(f"{name} is now {names[name]}" for name in old)
        _log.warning("%s: written by an older Swath; %s", where, told)
    current = {name: value for name, value in content.items() if name not in names}
    return {**{names[name]: content[name] for name in old}, **current}
