"""Errors of labelled images, one clear line each."""

from __future__ import annotations

_LONGEST = 2000  # characters of a message; what is quoted in it may be a whole file


def one_line(text: str) -> str:
    """`text` as one printable line: names from a file may hold line ends, escape codes or half characters."""
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


class DataError(Exception):
    """A fault in labels or images that the user can correct; its message is one line: what, where and what to do.

    Args:
        message: the line.
        kind: the code under which `swath data check` lists it; None: its catcher decides.

    """

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(one_line(message))
        self.kind = kind


class NoSuchSplit(DataError):
    """The dataset exists, but not the requested split of it."""


class PartMissing(NoSuchSplit):
    """The dataset names a split, but what it names is not there.

    Args:
        message: the line.
        near: what was probably meant.

    """

    def __init__(self, message: str, *, near: object = None) -> None:
        super().__init__(message, kind="part-missing")
        self.near = near
