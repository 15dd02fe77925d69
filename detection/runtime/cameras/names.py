"""Names of sources in outputs, messages and on pages; they never hold secrets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from detection.runtime.addresses import URL, shown_address

__all__ = ["URL", "different", "merged", "without_secrets"]


def merged(name: str) -> str:
    """What of a name is left in files and topics that hold letters and digits only: of two names it must differ."""
    return re.sub(r"[\W_]+", "_", name)


def different(names: Sequence[str]) -> list[str]:
    """The names, with numbers where they repeat, or would in files and topics: "left", "left-2"."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        unique, count = name, 1
        while merged(unique) in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.add(merged(unique))
        found.append(unique)
    return found


def without_secrets(url: str) -> str:
    """Host and path of a URL, as `shown_address` gives them; the scheme where no more may be shown."""
    return shown_address(url) or url.partition("://")[0].lower()
