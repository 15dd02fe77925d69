"""Files in and out: read within limits; files and folders written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
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
            length = os.fstat(file.fileno()).st_size
            content = file.read(min(length, limit_bytes) + 1)  # Python takes all that is asked for at once
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
    # Opened without waiting and then checked: between a check and the opening it could be replaced.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DataError(f"{path}: cannot be read: a folder, pipe or device, not a file")
    return os.fdopen(handle, "rb")


@contextmanager
def whole_file(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A path to write to, that becomes `path` when the block ends and is removed when it raises.

    A reader of `path` finds the old file or the whole new one, after a power loss too. The training half
    writes all its files by this; `detection.runtime.blackbox` has its own, for a robot lacks the packages to import
    `data`, and `data` must not import `detection`.

    Args:
        path: the target; its folder is made.
        sync: wait until the disk has it; not needed for the thousands of files of a folder that is not yet in place.

    Raises:
        OSError: the file cannot be written; `path` is as it was.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        if sync:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if sync and os.name == "posix":  # the name too; Windows cannot open folders
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Write a file whole or not at all; see `whole_file`.

    Args:
        path: the target; its folder is made.
        content: text is written as UTF-8.
        sync: see `whole_file`.

    Raises:
        DataError: the file cannot be written.

    """
    path = Path(path)
    try:
        raw = content.encode() if isinstance(content, str) else content
        with whole_file(path, sync=sync) as partial:
            partial.write_bytes(raw)
    except UnicodeEncodeError:
        line = "the name of a file or class, or an attribute, is no Unicode text: rename it, or convert with --copy"
        raise DataError(f"{path}: cannot be written: {line}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None


def json_text(content: object, *, indent: int | None = 1) -> str:
    """A JSON with its line end; letters as they are, unless a file's name is not UTF-8: then as escapes."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    broken = not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
    return (json.dumps(content, indent=indent) if broken else text) + "\n"


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
