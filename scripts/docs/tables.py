"""Tables of the docs that list what the code has: presets, effects, formats, cameras, outputs."""

from __future__ import annotations

from collections.abc import Iterable


def table(name: str) -> str:
    """One of the tables as Markdown; a page asks for it by a line `<!-- table: NAME -->`.

    Raises:
        KeyError: there is none of this name.

    """
    return TABLES[name]()


def findings() -> str:
    """What `swath data check` finds, by severity."""
    from data.check.findings import KINDS

    return _rows(
        "kind", "severity", "", rows=[(f"`{kind}`", severity, text) for kind, (severity, text) in KINDS.items()]
    )


def _rows(*titles: str, rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {"findings": findings}
