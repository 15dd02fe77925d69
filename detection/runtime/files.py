"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from detection.runtime.errors import OutputError


def write_whole(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file; whoever reads it sees the old one or the new one, never a part.

    Args:
        path: missing folders are made; what stood there is replaced.
        content: text, written as UTF-8, or bytes.
        private: only its owner may read it.

    Raises:
        OutputError: it cannot be written; what stood there is as it was.

    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if private:
            part.unlink(missing_ok=True)
            part.touch(mode=0o600, exist_ok=False)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


def check_writable(path: Path, *, inputs: Iterable[Path] = ()) -> None:
    """Make sure that `write_whole` will be able to write a file, before work is done for it.

    Args:
        path: the file.
        inputs: files that are read, which it must not replace.

    Raises:
        OutputError: the folder cannot be made or written, or the path is a folder or one of the inputs.

    """
    if path.resolve() in {given.resolve() for given in inputs}:
        raise OutputError(f"{path}: is read too, and would be replaced; give the output another name")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file in it")
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: cannot be written ({folder} is no folder that may be written)")
