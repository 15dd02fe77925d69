"""Findings of a check as a table for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Column, Table
from rich.text import Text

from detection.runtime.operations.finding import Finding

_SHOWN = {"ok": ("ok", "green"), "note": ("note", "yellow"), "wrong": ("WRONG", "bold red")}


def findings_table(
    findings: Sequence[Finding], *, title: str | None = None, redaction: Callable[[str], str] = str
) -> Table:
    """A row for each finding: its state, its subject, and the message.

    Args:
        findings: of one check.
        title: above the table; None for none.
        redaction: takes secrets out of messages.

    """
    columns = (Column(no_wrap=True), Column(overflow="fold"), Column(overflow="fold"))
    table = Table(*columns, title=title, title_justify="left", show_header=False, box=None)
    for finding in findings:
        sign, style = _SHOWN[finding.state]
        table.add_row(Text(sign, style), Text(finding.subject), Text(redaction(finding.message)))
    return table
