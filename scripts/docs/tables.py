"""Tables of the docs that list what the code has: presets, effects, formats, cameras, outputs."""

from __future__ import annotations


def table(name: str) -> str:
    """One of the tables as Markdown; a page asks for it by a line `<!-- table: NAME -->`.

    Raises:
        KeyError: there is none of this name.

    """
    return TABLES[name]()


TABLES = {}
