"""Tables of `swath data`: findings of a check, parts of a dataset, public datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from rich.text import Text

from data.check.findings import Example, Report
from data.download.registry import PublicSet
from data.errors import one_line

_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def findings_table(report: Report) -> Table:
    """One line for each finding, with its first example below."""
    kind, count = Column("kind", no_wrap=True), Column("count", justify="right")
    table = Table("", kind, "where", count, "what, and the first of it", box=SIMPLE_HEAD, pad_edge=False)
    for found in report.findings:
        what = _plain(found.message)
        if found.examples:
            what.append("\n").append(one_line(_shown(found.examples[0])), "dim")
        cells = (found.kind, found.part, str(found.count))
        table.add_row(Text(found.severity, _STYLES[found.severity]), *map(_plain, cells), what)
    return table


def parts_table(parts: Mapping[str, Mapping[str, Any]], *, title: str | None = None) -> Table:
    """Images, groups where they are counted, and boxes of each class, one line for each part."""
    grouped = any("groups" in numbers for numbers in parts.values())
    classes = list(dict.fromkeys(name for numbers in parts.values() for name in numbers["classes"]))
    table = Table(title=_plain(title) if title else None, title_justify="left")
    table.add_column("part")
    for column in ("images", *(["groups"] if grouped else []), "boxes", *classes):
        table.add_column(_plain(column), justify="right")
    for part, numbers in parts.items():
        boxes = [numbers["classes"].get(name, 0) for name in classes]
        cells = [numbers["images"], *([numbers["groups"]] if grouped else []), sum(boxes), *boxes]
        table.add_row(_plain(part), *map(str, cells))
    return table


def public_sets_table(sets: Iterable[PublicSet]) -> Table:
    """The datasets that can be fetched by name."""
    table = Table(
        Column("name", no_wrap=True), "images", Column("licence", no_wrap=True), "published checksum", "title"
    )
    for one in sets:
        images = "?" if one.images is None else str(one.images)
        table.add_row(one.name, images, one.licence, one.checksum_kind or "none", one.title)
    return table


def _plain(text: str) -> Text:
    """Text as it stands: names may hold what rich takes for markup, and a terminal for commands."""
    return Text(one_line(text))


def _shown(example: Example) -> str:
    def name(where: str) -> str:
        return Path(where).name

    if example.other:
        return f"{name(example.where)} and {name(example.other)}: {example.detail}"
    if example.box_xyxy:
        corners = ", ".join(f"{v:.6g}" for v in example.box_xyxy)
        return f"{name(example.where)} ({corners})"
    if name(example.where) in example.detail:
        return example.detail  # a reader's own line, which names the place
    return f"{name(example.where)}: {example.detail}" if example.detail else name(example.where)
