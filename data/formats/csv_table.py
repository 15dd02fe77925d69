"""Tables of text as spreadsheets and scripts write them: separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.errors import DataError
from data.formats.repair import Notices
from data.formats.text import label_text

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_BARE = re.compile(r"[\w./()+-](?:[\w ./()+-]*[\w./()+-])?", re.ASCII)


def read_table(path: Path, notices: Notices) -> list[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank; spaces around a cell are left out, unless it is quoted.

    The separator is the one of `;`, tab and `,` that the first line has most of, and `,` where it has none.

    Raises:
        DataError: it cannot be read, or a quote is not closed.

    """
    text = label_text(path, notices, kind="a CSV")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=separator(text))
    table = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not valid CSV ({error})") from None
    return table


def separator(text: str) -> str:
    """What separates the cells of a table's first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    bare = re.sub(r'"[^"]*"', "", first)
    counts = {character: bare.count(character) for character in (";", "\t", ",")}
    # A decimal comma stands within a cell: 10,5;20,5
    return next((c for c in (";", "\t") if counts[c] >= 2), ",")


def number(cell: str) -> float:
    """A cell as a number, with a decimal point or comma; NaN where it is none."""
    text = cell.strip()
    if _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def table_text(rows: Iterable[Sequence[object]]) -> str:
    """A CSV with commas; cells are quoted unless they are plain words or numbers."""
    lines = [",".join(map(_cell, row)) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _cell(value: object) -> str:
    text = str(value)
    return text if not text or _BARE.fullmatch(text) else '"' + text.replace('"', '""') + '"'
