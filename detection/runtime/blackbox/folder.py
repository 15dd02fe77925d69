"""`BoundedFolder`: a folder with a quota, of complete files only."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from pathlib import Path

from detection.runtime.errors import OutputError

_log = logging.getLogger(__name__)
_BLOCK_BYTES = 4096  # a file takes whole blocks of the disk
_PART = ".part"


class BoundedFolder:
    """Parts (folders) of several kinds, numbered over all kinds; the oldest part is deleted when space is needed.

        ROOT/incidents/000007-20261126T140312Z-camera-lost/...
        ROOT/relabel/000008-20261126T140500Z/...

    The number, not the clock, says which is older: a robot without a battery clock starts in 1970.
    A file is written completely or not at all (to a temporary file, synchronised, renamed). A full disk is
    logged once, and each lost file is counted; nothing is raised while a machine runs.

    Not for use by several threads at once.

    Args:
        root: made where it is missing.
        quota_bytes: total size of all files below `root`, each rounded up to 4096 bytes.

    Attributes:
        lost_files: files that could not be written: the disk is full, or one file exceeds the quota.
        removed_parts: parts deleted for newer ones.

    Raises:
        OutputError: the folder cannot be made or written.

    """

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self.lost_files = 0
        self.removed_parts = 0
        self._held: set[Path] = set()
        self._too_large: int | None = None  # the smallest that was lost, while losing goes on
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / ".writable"
            probe.touch()
            probe.unlink()
            for path in root.rglob(f".*{_PART}"):  # of a writer that was killed
                path.unlink()
            self._used = sum(_blocks(p.stat().st_size) for p in root.rglob("*") if p.is_file())
        except OSError as error:
            raise OutputError(f"{root}: cannot be written ({error.strerror})") from None
        self._next = 1 + max((_number(part) for part in self._parts()), default=0)
        self._make_room(0, keep=None)  # the quota may have been lowered

    @property
    def used_bytes(self) -> int:
        """Present size of its files."""
        return self._used

    def new_part(self, kind: str, words: str = "") -> Path:
        """The path of a new part, newer than all others; its folder is created with its first file.

        Args:
            kind: the folder below `root`, such as "incidents".
            words: end of its name, for readers.

        """
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        end = re.sub(r"[^\w.]+", "-", words)[:60].strip("-.")
        name = f"{self._next:06d}-{stamp}" + (f"-{end}" if end else "")
        self._next += 1
        return self.root / kind / name

    def hold(self, part: Path) -> None:
        """Do not delete a part that is being written until it is finished."""
        self._held.add(part)

    def write(self, part: Path, name: str, content: bytes) -> bool:
        """Write or replace the file `name` of `part`; False where it was lost."""
        path = part / name
        draft = path.with_name(f".{path.name}{_PART}")
        if not self._make_room(len(content), keep=part):
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            before = _blocks(path.stat().st_size) if path.exists() else 0
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _synchronise(path.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            return self._lost(len(content), error.strerror or str(error))
        self._used += _blocks(len(content)) - before
        self._found_room(len(content))
        return True

    def append(self, part: Path, name: str, line: bytes) -> bool:
        """Append a line to the file `name` of `part`; False where it was lost."""
        path = part / name
        if not self._make_room(len(line), keep=part):
            return False
        end = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                end = file.tell()
                if file.write(line) != len(line):  # a full disk writes what fits
                    file.truncate(end)
                    raise OSError(None, "disk full")
                os.fsync(file.fileno())
        except OSError as error:
            return self._lost(len(line), error.strerror or str(error))
        self._used += _blocks(end + len(line)) - _blocks(end)
        self._found_room(len(line))
        return True

    def discard(self, part: Path, name: str) -> None:
        """Remove one file of a part, if it exists."""
        path = part / name
        try:
            size = path.stat().st_size
            path.unlink()
        except OSError:
            return
        self._used -= _blocks(size)

    def finish(self, part: Path, finished: Path) -> None:
        """Give a complete part its final name and release it."""
        self._held.discard(part)
        try:
            if part.is_dir():
                part.replace(finished)
                _synchronise(finished.parent)
        except OSError as error:
            _log.warning("%s: cannot be renamed (%s)", part, error.strerror)

    def remove(self, part: Path) -> None:
        """Delete a part."""
        freed = sum(_blocks(p.stat().st_size) for p in part.rglob("*") if p.is_file())
        shutil.rmtree(part, ignore_errors=True)
        if part.exists():
            _log.warning("%s: cannot be removed", part)
            freed -= sum(_blocks(p.stat().st_size) for p in part.rglob("*") if p.is_file())
        self._used -= freed

    def parts(self, kind: str) -> list[Path]:
        """The parts of one kind, oldest first."""
        return [part for part in self._parts() if part.parent.name == kind]

    def _parts(self) -> list[Path]:
        found = [part for kind in self.root.iterdir() if kind.is_dir() for part in kind.iterdir() if part.is_dir()]
        return sorted(found, key=_number)

    def _make_room(self, size: int, keep: Path | None) -> bool:
        need = _blocks(size)
        if self._used + need <= self.quota_bytes:
            return True
        for part in self._parts():
            if part != keep and part not in self._held:
                self.remove(part)
                self.removed_parts += 1
            if self._used + need <= self.quota_bytes:
                return True
        return self._lost(size, f"the quota of {self.quota_bytes / 1e6:g} MB is too small") if size else False

    def _lost(self, size: int, why: str) -> bool:
        self.lost_files += 1
        said, self._too_large = self._too_large, min(size, self._too_large or size)
        if said is None:
            _log.error("%s: cannot be written (%s); lost files are counted", self.root, why)
        return False

    def _found_room(self, size: int) -> None:
        # A full disk may have room for a line where it has none for an image: not reported.
        if self._too_large is not None and size >= self._too_large:
            self._too_large = None
            _log.warning("%s: can be written again; %d files were lost", self.root, self.lost_files)


def _blocks(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _number(part: Path) -> int:
    match = re.match(r"[0-9]+", part.name)
    return int(match[0]) if match else 0


def _synchronise(folder: Path) -> None:
    """Make renaming in `folder` survive a power cut."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
