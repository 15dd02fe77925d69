"""Files in and out: read within limits; files and folders written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from data.errors import DataError

TEXT_LIMIT_BYTES = 64 << 20
"""Largest label file that is read at once; a COCO JSON may be larger."""


def read_text(path: Path, *, kind: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """The text of a label file, line ends as they stand, a byte-order mark left out; see `read_bytes`.

    Raises:
        DataError: it cannot be read, or is not UTF-8.

    """
    try:
        return read_bytes(path, kind=kind, limit_bytes=limit_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text, so not {kind}") from None


def read_bytes(path: Path, *, kind: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> bytes:
    """The content of a label file.

    Args:
        path: a regular file; a pipe or a device would hang or never end, and is refused.
        kind: what it should be, for messages: "a COCO JSON".
        limit_bytes: a larger file is refused.

    Raises:
        DataError: the file is missing, no regular file, or too large.

    """
    try:
        with open_regular(path) as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL or half a character in the name
        raise DataError(f"{path}: no such file can be: its name holds characters that no file name can") from None
    if len(content) > limit_bytes:
        raise DataError(f"{path}: larger than {limit_bytes >> 20} MiB, so hardly {kind}: split it or name another")
    return content


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading; never waits for a pipe, never reads a device.

    Raises:
        OSError: it cannot be opened.
        DataError: it is no regular file.

    """
    # Opened without waiting, and only then looked at: between a look and an opening it could be exchanged.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"{path}: cannot be read: a folder, pipe or device, not a file")
    return os.fdopen(handle, "rb")


def write_whole(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write beside the target, then rename: a reader never sees half a file.

    Args:
        path: the target; its folder is made.
        content: text is written as UTF-8.
        sync: wait until the disk has it; spared for the thousands of files of a folder that is not yet in place.

    Raises:
        DataError: the file cannot be written.

    """
    path = Path(path)
    temporary: str | None = None
    try:
        raw = content.encode() if isinstance(content, str) else content
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would lock out everyone else who shares the folder
        os.replace(temporary, path)
        temporary = None
    except UnicodeEncodeError:
        raise DataError(f"{path}: cannot be written: a name or attribute holds half a character") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, that becomes `target` when the block ends, and is gone when it raises or is interrupted.

    Args:
        target: not there yet, or an empty folder.

    Raises:
        DataError: the target is taken, or cannot be written.

    """
    target = Path(os.path.abspath(target))
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise DataError(f"{target}: is there already: name a new folder, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".tmp"))
        try:
            yield staging
            os.chmod(staging, 0o755)  # mkdtemp's 0700 would lock out everyone else who shares the folder
            if os.path.isdir(target):
                os.rmdir(target)
            os.rename(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error})") from None
