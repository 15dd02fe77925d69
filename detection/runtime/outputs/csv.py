"""`CsvOutput`: one row per detection, for spreadsheets."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from detection.runtime.outputs.contract import RECORD_SCHEMA, Output, Record
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind
from detection.runtime.outputs.lines import LinesFile
from detection.runtime.settings import HomePath

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame

COLUMNS = (
    "schema",
    "camera",
    "frame",
    "captured_ns",
    "age_ms",
    "stream_s",
    "x1",
    "y1",
    "x2",
    "y2",
    "label",
    "class",
    "track_id",
    "score",
)
"""The first line. `score` is last: zeros after a decimal change nothing (see `LinesFile`)."""


class CsvOutput(Output):
    """One row per detection (RFC 4180, with a header); rows are always complete (`LinesFile`).

    A frame without detections has no row; what is None is an empty field.

    Args:
        path: what stood there is replaced; with `{date}` in its name there is one file per day, and an
            existing one is continued.

    Raises:
        OutputError: the file cannot be written.

    """

    needs_image = False

    def __init__(self, path: Path | str) -> None:
        self._lines = LinesFile(Path(path), newline=b"\r\n", fill=b"0", header=",".join(COLUMNS).encode())

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Append a row for each detection.

        Raises:
            OutputError: it cannot be written (disk full); the rows before it stay whole.

        """
        of_frame = (
            RECORD_SCHEMA,
            record["camera"],
            record["frame"],
            record["captured_ns"],
            record["age_ms"],
            record["stream_s"],
        )
        for found in record["detections"]:
            row = (
                *of_frame,
                *found["box_xyxy"],
                found["label"],
                found["class"],
                found["track_id"],
                # never as 1e-05, where a zero would count
                f"{found['score']:.4f}",
            )
            text = io.StringIO()
            csv.writer(text, lineterminator="").writerow(row)
            self._lines.append(text.getvalue().encode())

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _open(path: Path, context: OutputContext) -> list[Output]:
    return [CsvOutput(path)]


KIND = OutputKind(
    key="csv",
    about="one row per detection",
    settings=HomePath,
    opens=_open,
    flags=(Flag("F", "One row per detection; {date} as for --jsonl."),),
    example='"season/{date}.csv"',
    writes=lambda path: [path],
)
