"""A cache of decoded images for the next epoch: shared by all worker processes, of bounded size."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from data.dataset import Dataset
from data.errors import DataError
from data.window import Window

_SCHEME = 2  # to be raised when the same image file decodes to other pixels
_SUFFIX, _UNFINISHED = ".bgr", ".tmp"
_ABANDONED_S = 3600.0  # a file unfinished for this long belongs to a run that was killed
_SPARED_BYTES = 1 << 30  # of a disk, left for everything else
_MIB = 1 << 20

CacheKind = Literal["none", "ram", "disk"]


@dataclass(frozen=True)
class CacheOptions:
    """Where decoded images are kept between epochs.

    Attributes:
        kind: `none`, `ram` (memory that all workers share) or `disk` (files under `default_folder`, which the next
            run finds again).
        room_mb: how much the cache may hold, all workers together, in MiB; 0 keeps nothing.

    Raises:
        ValueError: another kind, or `room_mb` below 0.

    """

    kind: CacheKind = "ram"
    room_mb: int = 1024

    def __post_init__(self) -> None:
        if self.kind not in ("none", "ram", "disk") or self.room_mb < 0:
            raise ValueError(f"a cache is none, ram or disk, with 0 MiB or more; got {self.kind}, {self.room_mb}")


class PixelCache(Protocol):
    """Where decoded images are kept. What is not kept is decoded again: a cache never changes a batch."""

    kept: int
    """How many of the images, counted from the first, there is room for."""

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """An image as it was put, uint8 (H, W, 3), read-only; None where the cache does not hold it."""

    def put(self, index: int, image: NDArray[np.uint8]) -> None:
        """Keep an image, if there is room for it."""


class RamCache:
    """Decoded images in one piece of memory that forked workers share.

    Every image has a fixed place from the start, so nothing is ever allocated, moved or evicted, and two
    workers that decode the same image write the same bytes. Memory is taken as images come. Workers that
    are spawned, not forked, cannot share it: each gets a cache of its own with its share of the room.

    Args:
        sizes_hw: int (N, 2), height and width of each image as it will be put.
        room_bytes: how much to keep at most.
        sharers: worker processes that share the room; 0 is this process alone.

    """

    def __init__(self, sizes_hw: Sequence[tuple[int, int]], room_bytes: int, sharers: int = 0) -> None:
        self._sizes_hw, self._room_bytes, self._sharers = list(sizes_hw), room_bytes, sharers
        ends = _ends(sizes_hw)
        self.kept = int(np.searchsorted(ends, room_bytes, side="right"))
        self._starts = np.concatenate([np.zeros(1, np.int64), ends])
        # one byte an image that says that it is there, then the images
        self._memory = mmap.mmap(-1, max(1, self.kept + int(self._starts[self.kept])))

    def __reduce__(self) -> tuple[Any, ...]:
        return RamCache, (self._sizes_hw, self._room_bytes // max(1, self._sharers))

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """The image as it was put, or None."""
        if index >= self.kept or not self._memory[index]:
            return None
        image = self._place(index)
        image.setflags(write=False)
        return image

    def put(self, index: int, image: NDArray[np.uint8]) -> None:
        """Keep an image, if it has a place."""
        if index < self.kept:
            self._place(index)[:] = image
            # Last, so that no reader sees half an image. The image is read again an epoch later, in a batch
            # whose number came through a queue: by then every processor agrees on the order.
            self._memory[index] = 1

    def _place(self, index: int) -> NDArray[np.uint8]:
        height, width = self._sizes_hw[index]
        offset = self.kept + int(self._starts[index])
        return np.frombuffer(self._memory, np.uint8, height * width * 3, offset).reshape(height, width, 3)


class DiskCache:
    """Decoded images in a folder: they outlive the run, and the system's page cache shares them.

    One file of raw pixels for each image, named by a hash of the image's path, length, modification time
    and size wanted, so an image that was replaced is not found under its old name. A file is written under
    a temporary name and renamed: it is complete or absent. The least recently used files are deleted first
    when room is needed.

    Args:
        folder: created if missing; nothing else should be in it.
        paths: the N image files.
        sizes_hw: int (N, 2), height and width of each image as it will be put.
        room_bytes: how much the folder may hold; less where the disk has less left.
        windows: for each image the part of its file that it shows, None for all of it; all whole if left out.

    Raises:
        DataError: the folder cannot be made or written to.

    """

    def __init__(
        self,
        folder: Path,
        paths: Sequence[Path],
        sizes_hw: Sequence[tuple[int, int]],
        room_bytes: int,
        windows: Sequence[Window | None] = (),
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            everything = {entry.name: entry.stat() for entry in os.scandir(folder)}
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise DataError(
                f"{folder}: images cannot be cached here ({error.strerror or error}); "
                "set XDG_CACHE_HOME to a folder that can be written to, or train.cache to ram or none"
            ) from None
        for name, stat in everything.items():
            if name.endswith(_UNFINISHED) and stat.st_mtime < time.time() - _ABANDONED_S:
                with contextlib.suppress(OSError):
                    os.unlink(folder / name)
        there = {name: stat for name, stat in everything.items() if name.endswith(_SUFFIX)}
        used = sum(stat.st_size for stat in there.values())
        room_bytes = min(room_bytes, used + max(0, free - _SPARED_BYTES))
        ends = _ends(sizes_hw)
        self.kept = int(np.searchsorted(ends, room_bytes, side="right"))
        self._sizes_hw = list(sizes_hw[: self.kept])
        parts = windows or [None] * len(paths)
        self._files = [folder / _name(paths[i], self._sizes_hw[i], parts[i]) for i in range(self.kept)]
        wanted = {file.name for file in self._files}
        excess = used - sum(there[name].st_size for name in wanted & there.keys()) - room_bytes
        excess += int(ends[self.kept - 1]) if self.kept else 0
        for name in sorted(there.keys() - wanted, key=lambda name: there[name].st_mtime_ns):
            if excess <= 0:
                break
            with contextlib.suppress(OSError):  # another run deleted it
                os.unlink(folder / name)
            excess -= there[name].st_size
        for name in wanted & there.keys():
            with contextlib.suppress(OSError):
                os.utime(folder / name)  # in use

    def get(self, index: int) -> NDArray[np.uint8] | None:
        """The image as it was put, or None."""
        if index >= self.kept:
            return None
        height, width = self._sizes_hw[index]
        try:
            pixels = np.fromfile(self._files[index], np.uint8)
        except OSError:
            return None
        if pixels.size != height * width * 3:  # truncated by a crash of the machine
            return None
        pixels.setflags(write=False)
        return pixels.reshape(height, width, 3)

    def put(self, index: int, image: NDArray[np.uint8]) -> None:
        """Keep an image, if there is room; nothing is kept on a full disk."""
        if index >= self.kept:
            return
        file = self._files[index]
        temporary: str | None = None
        try:
            handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=_UNFINISHED)
            with os.fdopen(handle, "wb") as written:
                written.write(np.ascontiguousarray(image).data)
            os.replace(temporary, file)
            temporary = None
        except OSError:
            pass
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)


def open_cache(
    dataset: Dataset,
    sizes_hw: Sequence[tuple[int, int]],
    options: CacheOptions,
    *,
    sharers: int = 0,
    note: Callable[[str], None] | None = None,
) -> PixelCache | None:
    """The cache for a dataset's images.

    Args:
        dataset: the images.
        sizes_hw: (N, 2), height and width of each as it will be put.
        options: kind and room.
        sharers: worker processes that share the cache; 0 is this process alone.
        note: called with one line where there is no room for all images.

    Returns:
        None where nothing is to be kept.

    Raises:
        DataError: the folder of a disk cache cannot be made or written to.

    """
    if options.kind == "none" or not options.room_mb:
        return None
    cache: PixelCache
    if options.kind == "ram":
        cache = RamCache(sizes_hw, options.room_mb * _MIB, sharers)
    else:
        paths: list[Path] = [image.path for image in dataset.images]
        windows = [image.window for image in dataset.images]
        cache = DiskCache(default_folder(), paths, sizes_hw, options.room_mb * _MIB, windows)
    if note is not None and cache.kept < len(dataset):
        needed_mb = sum(height * width * 3 for height, width in sizes_hw) // _MIB + 1
        note(
            f"the {options.kind} cache holds {cache.kept} of {len(dataset)} images; the others are decoded every "
            f"time (train.cache_mb is {options.room_mb}; all of them need {needed_mb})"
        )
    return cache


def default_folder() -> Path:
    """Where the disk cache lies: `images` in Swath's folder of the user's cache (Linux: `~/.cache/swath/images`)."""
    return user_cache_path("swath", appauthor=False) / "images"


def _ends(sizes_hw: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """int64 (N,): where each image ends when all lie end to end, in bytes."""
    sizes = np.asarray(sizes_hw, np.int64).reshape(-1, 2)
    return np.cumsum(sizes[:, 0] * sizes[:, 1] * 3, dtype=np.int64)


def _name(path: Path, size_hw: tuple[int, int], window: Window | None) -> str:
    """The cache file of an image. Like `make` and `rsync`, it trusts length and modification time."""
    real = os.path.realpath(path)
    try:
        stat = os.stat(real)
        state = [stat.st_size, stat.st_mtime_ns]
    except OSError:
        state = []  # reading it will say what is wrong
    part = () if window is None else (window.corners_xyxy,)
    identity = repr((_SCHEME, cv2.__version__, real, state, tuple(size_hw), *part))
    return hashlib.sha256(identity.encode()).hexdigest()[:40] + _SUFFIX
