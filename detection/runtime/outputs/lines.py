"""`LinesFile`: a text file whose lines are complete even when its writer is killed."""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path

from detection.runtime.errors import OutputError
from detection.runtime.outputs.naming import dated


class LinesFile:
    """A text file that grows by whole lines: one can follow it, and read it after its writer was killed.

    Each line is one write call. That alone is not enough: Linux copies a write page by page, and a
    SIGKILL stops it between two pages (measured: of 60 writers of 3,000-byte lines that were killed at
    full speed 13 left a cut one). So no line crosses the border of a page unless it is longer than one:
    the line before it is filled up, with a byte that does not change its meaning, in one write within
    the page. Longer lines begin at a border; the kill must come within their own write to cut them.

    With `{date}` in its name there is a file for each day, and what a file of the day holds already stays: a cut
    last line is taken off, new ones follow. Without it, what stood there is replaced. Missing
    folders are made. Pipes and terminals are written as they are.

    Args:
        path: the file, perhaps with `{date}`.
        newline: what ends a line.
        fill: one byte that may stand any number of times at the end of a line and means nothing there.
        header: the first line of each file, without its end; None for none.

    Raises:
        OutputError: the file cannot be written.

    """

    def __init__(self, path: Path, *, newline: bytes, fill: bytes, header: bytes | None = None) -> None:
        self._template = path
        self._newline = newline
        self._fill = fill
        self._header = header
        self._path = path
        self._file: FileIO | None = None
        self._regular = False
        self._end = 0
        try:
            self._follow_the_date()
        except OSError as error:
            raise self._error(error) from None

    def append(self, line: bytes) -> None:
        """Add one line, given without its end.

        Raises:
            OutputError: it cannot be written (disk full); the lines before it stay whole.

        """
        try:
            self._append(self._follow_the_date(), line + self._newline)
        except OSError as error:
            raise self._error(error) from None

    def close(self) -> None:
        """Close the file; safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _append(self, file: FileIO, line: bytes) -> None:
        if not self._regular:
            while line:
                line = line[file.write(line) or 0 :]
            return
        room = -self._end % mmap.PAGESIZE
        if 0 < room < len(line):
            self._write(file, self._fill * room + self._newline, self._end - len(self._newline))
            self._end += room
        self._write(file, line, self._end)
        self._end += len(line)

    def _write(self, file: FileIO, data: bytes, offset: int) -> None:
        """One write at `offset`; where it does not fit, the file is as it was before."""
        try:
            file.seek(offset)
            if file.write(data) != len(data):  # a full disk takes the part that fits
                raise OSError(None, "disk full")
        except OSError:
            with suppress(OSError):
                file.truncate(self._end)
                if offset < self._end:
                    file.seek(offset)
                    file.write(self._newline)
            raise

    def _follow_the_date(self) -> FileIO:
        path = dated(self._template, datetime.now())
        if self._file is not None and path == self._path:
            return self._file
        self.close()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        goes_on = path != self._template and path.exists()
        # Unbuffered: one write() call of the operating system for each of ours.
        file = self._file = FileIO(path, "r+" if goes_on else "w")
        self._regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._end = _after_the_last(self._newline, file) if goes_on else 0
        if goes_on:
            file.truncate(self._end)
        if self._header is not None and self._end == 0:
            self._append(file, self._header + self._newline)
        return file

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({error.strerror})")


def _after_the_last(newline: bytes, file: FileIO) -> int:
    """Where the last whole line ends."""
    if os.fstat(file.fileno()).st_size == 0:
        return 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = content.rfind(newline)
    return found + len(newline) if found >= 0 else 0
