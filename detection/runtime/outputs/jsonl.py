"""`JsonlOutput`: one JSON line per frame."""

from __future__ import annotations

import json
from pathlib import Path

from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import Output, Record


class JsonlOutput(Output):
    """One JSON object per line and frame. A line is written whole by one call, or not at all.

    So a file that is being written can be followed, and one whose writer was killed can be read.
    What stood at the path is replaced; missing folders are made.

    Raises:
        OutputError: the file cannot be written.

    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: one write() call of the operating system per line.
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        self._end = 0

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Append the record's line.

        Raises:
            OutputError: it cannot be written (disk full); the lines before it stay whole.

        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):  # a full disk takes the part that fits
                self._file.truncate(self._end)
                raise OSError(None, "disk full")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
