"""Names of sources in outputs, messages and on pages; they never hold secrets."""

from __future__ import annotations

import re
from collections.abc import Sequence

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def different(names: Sequence[str]) -> list[str]:
    """The names, with numbers where they repeat: "left", "left-2"."""
    taken: list[str] = []
    for name in names:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.append(unique)
    return taken


def without_secrets(url: str) -> str:
    """Host and path of a URL, without user, password, query and fragment."""
    rest = URL.sub("", url, count=1)
    # The last @ of all, not of the host alone: passwords with / and ? in them are pasted as they are.
    rest = rest.rpartition("@")[2]
    return re.split(r"[?#]", rest, maxsplit=1)[0].rstrip("/")
