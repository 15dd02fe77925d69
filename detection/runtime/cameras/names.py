"""Names of sources in outputs, messages and on pages; they never hold secrets."""

from __future__ import annotations

from collections.abc import Sequence

from detection.runtime.addresses import URL, shown_address

__all__ = ["URL", "different", "without_secrets"]


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
    """Host and path of a URL, as `shown_address` gives them; the scheme where no more may be shown."""
    return shown_address(url) or url.partition("://")[0].lower()
