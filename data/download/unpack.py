"""Archives from strangers, unpacked so that nothing lands outside of the target folder.

Why not `pooch`'s processors (1.9.0, tried): a tar's `../out.txt` was written outside of the folder, its link to
`/etc/passwd` was made, and a zip of 0.4 MB was unpacked to 400 MB without a limit.
"""

from __future__ import annotations

import errno
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from data.errors import DataError

_CHUNK_BYTES = 1 << 20
_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_LITTER = ("__MACOSX", ".DS_Store")
"""What macOS leaves in archives; its "._a.jpg" would be taken for images."""


class ArchiveError(DataError):
    """An archive that is broken, or that no honest dataset would be: fetching it again is the only remedy."""


@dataclass(frozen=True)
class Limits:
    """How much an archive may become; far beyond any honest dataset, far below what fills a disk by surprise."""

    bytes: int = 500 << 30
    ratio: int = 200  # unpacked to packed; images hardly shrink, text labels shrink twentyfold
    floor_bytes: int = 64 << 20  # below this no ratio counts
    entries: int = 5_000_000


@dataclass
class _Budget:
    """What is still allowed; counted by what is written, whatever the archive claims."""

    archive: Path
    limits: Limits
    bytes: int = field(init=False)
    entries: int = 0

    def __post_init__(self) -> None:
        packed = self.archive.stat().st_size
        self.bytes = min(self.limits.bytes, max(self.limits.floor_bytes, packed * self.limits.ratio))

    def entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise ArchiveError(f"{self.archive}: holds more than {self.limits.entries:,} files: refused")

    def spend(self, count: int, name: str) -> None:
        self.bytes -= count
        if self.bytes < 0:
            packed = self.archive.stat().st_size
            raise ArchiveError(
                f"{self.archive}: {packed:,} bytes that unpack to more than {self.limits.ratio} times as much, "
                f"or to more than {self.limits.bytes >> 30} GiB (at {name!r}): refused"
            )


def parts_of(name: str) -> tuple[str, ...]:
    """The folders and the file of an archive's entry; none for the archive's own root.

    Backslashes separate as slashes do: archives from Windows are full of them, and none is part of a name there.

    Raises:
        ValueError: the name is absolute, climbs by "..", or can be no file's name.

    """
    plain = name.replace("\\", "/")
    if "\0" in plain:
        raise ValueError("holds a NUL")
    if plain.startswith("/") or re.match("[A-Za-z]:", plain):
        raise ValueError("is absolute")
    parts = tuple(part for part in plain.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError("climbs out of its folder")
    return parts


def unpack(
    archive: Path,
    folder: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    limits: Limits | None = None,
) -> None:
    """Unpack a zip or a tar (plain, .gz, .bz2 or .xz; recognised by its content) into a folder.

    Where all of it lies in one folder, that folder's content is what is unpacked. Only plain files and folders are
    made, with the permissions that new files have here.

    Args:
        archive: the file.
        folder: there already, and empty. After an error it holds a part: unpack into a folder that is then removed.
        progress: called with how much is done, of how much.
        limits: how much it may become.

    Raises:
        ArchiveError: broken, cut short, encrypted, or holding links, devices, paths that lead out, the same file
            twice, or far more than its size lets expect.
        OSError: the disk is full, or a name too long for it.

    """
    budget = _Budget(archive, limits or Limits())
    # Unpacked one folder deeper, so that a single folder around everything can be removed.
    inner = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacking."))
    with _named_faults(archive):
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, inner, budget, progress)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, inner, budget, progress)
        else:
            raise ArchiveError(f"{archive}: neither a zip nor a tar, or cut short: fetch it again")
    if not (there := os.listdir(inner)):
        raise ArchiveError(f"{archive}: is empty")
    only = inner / there[0]
    source = only if len(there) == 1 and only.is_dir() else inner
    for name in os.listdir(source):
        os.rename(source / name, folder / name)
    if source != inner:
        source.rmdir()
    inner.rmdir()


@contextmanager
def _named_faults(archive: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise ArchiveError(f"{archive}: broken or cut short ({error}): fetch it again") from None
    except OSError as error:
        # The disk's own has a number. gzip and bzip2 say that data is broken by one without; a zip whose directory
        # points before its start ends in a seek to there.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise ArchiveError(f"{archive}: broken or cut short ({error}): fetch it again") from None
    except (NotImplementedError, RuntimeError) as error:  # what zipfile raises for features that it lacks
        raise ArchiveError(f"{archive}: cannot be unpacked ({error})") from None


def _unpack_zip(archive: Path, inner: Path, budget: _Budget, progress: Callable[[int, int], None]) -> None:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        for number, entry in enumerate(entries, start=1):
            parts = _checked(archive, entry.filename, budget)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(archive, entry.filename, "is a link or a device")
            if entry.flag_bits & 1:
                raise ArchiveError(f"{archive}: is encrypted: unpack it by hand")
            if parts is not None:
                if entry.is_dir() or entry.filename.endswith("\\"):
                    _make_folder(archive, inner, parts, entry.filename)
                else:
                    with opened.open(entry) as content:
                        _write(archive, inner, parts, content, budget, entry.filename)
            progress(number, len(entries))


def _unpack_tar(archive: Path, inner: Path, budget: _Budget, progress: Callable[[int, int], None]) -> None:
    packed = archive.stat().st_size
    with open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as opened:
        for entry in opened:
            parts = _checked(archive, entry.name, budget)
            if not (entry.isreg() or entry.isdir()):
                raise _refused(archive, entry.name, "is a link or a device")
            if hasattr(tarfile, "data_filter"):  # Python's own second opinion, from 3.11.4 on
                tarfile.data_filter(entry, str(inner))
            if parts is not None:
                if entry.isdir():
                    _make_folder(archive, inner, parts, entry.name)
                else:
                    content = opened.extractfile(entry)
                    assert content is not None  # a regular file
                    with content:
                        _write(archive, inner, parts, content, budget, entry.name)
            progress(min(raw.tell(), packed), packed)
        # Read to the very end: only there do gzip, bzip2 and xz compare their checksums.
        rest = opened.fileobj
        while rest is not None and (chunk := rest.read(_CHUNK_BYTES)):
            budget.spend(len(chunk), "what follows the last file")
        progress(packed, packed)


def _checked(archive: Path, name: str, budget: _Budget) -> tuple[str, ...] | None:
    """The parts of a name; None for what is left out."""
    budget.entry()
    try:
        parts = parts_of(name)
    except ValueError as error:
        raise _refused(archive, name, str(error)) from None
    litter = not parts or parts[-1].startswith("._") or any(part in _LITTER for part in parts)
    return None if litter else parts


def _refused(archive: Path, name: str, why: str) -> ArchiveError:
    return ArchiveError(f"{archive}: {name!r} {why}: refused, nothing of it is kept")


def _make_folder(archive: Path, inner: Path, parts: tuple[str, ...], name: str) -> None:
    try:
        inner.joinpath(*parts).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _refused(archive, name, "is a file and a folder at once") from None


def _write(
    archive: Path, inner: Path, parts: tuple[str, ...], content: IO[bytes], budget: _Budget, name: str
) -> None:
    if len(parts) > 1:
        _make_folder(archive, inner, parts[:-1], name)
    try:
        # "x": a second file of that name is an error, on disks that do not tell A from a as well.
        file = open(inner.joinpath(*parts), "xb")
    except FileExistsError:
        raise _refused(archive, name, "occurs twice (or differs in capitals only, on this disk)") from None
    with file:
        while chunk := content.read(_CHUNK_BYTES):
            budget.spend(len(chunk), name)
            file.write(chunk)
