"""`FragmentedMp4`: a video file that plays up to its last second even when its writer is killed.

ISO/IEC 14496-12. While it grows, the file is a fragmented MP4: a header (`moov`, with `mvex`) that knows of
no image, then for each fragment a table (`moof`) and its images (`mdat`). When it is finished, one
table of all images is put at its end and what stands before becomes one big `mdat`: an ordinary MP4,
which every player can seek in. A killed writer leaves the former, a clean end the latter.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

TICKS = 90_000
"""Of the video's clock, a second."""

_TRACK = 1
_KEY, _NOT_KEY = 0x02000000, 0x01010000  # sample flags: depends on no other; depends on others
_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


class Samples(NamedTuple):
    """Encoded images, one after another.

    Attributes:
        description: the `stsd` box: the codec and what its decoder must know.
        sizes: bytes of each.
        keys: whether each can be shown without another.
        data: all their bytes.

    """

    description: bytes
    sizes: tuple[int, ...]
    keys: tuple[bool, ...]
    data: bytes


class FragmentedMp4:
    """One video track, written fragment by fragment, each by one write call.

    Args:
        path: what stood there is replaced.
        size_wh: of the images, in pixels.
        description: of their codec (`Samples.description`).

    Raises:
        OSError: the file cannot be written.

    """

    def __init__(self, path: Path, size_wh: tuple[int, int], description: bytes) -> None:
        self._size_wh = size_wh
        self._description = description
        self._durations = array("I")
        self._sizes = array("I")
        self._keys = array("I")  # counted from 1
        self._begins = array("Q")  # of each fragment's images
        self._counts = array("I")  # of them
        self._ticks = 0
        self._file = FileIO(path, "w")
        self._end = 0
        kind = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso5mp41")
        self._hole = len(kind)
        try:
            # The hole becomes the head of the big mdat; 16 bytes is what a length of 64 bits needs.
            self._append(kind + _box(b"free", bytes(8)) + self._header(finished=False))
        except OSError:
            self._file.close()
            path.unlink(missing_ok=True)  # there would be one more for each attempt on a full disk
            raise

    def add(self, samples: Samples, durations: Sequence[int]) -> None:
        """Append a fragment.

        Args:
            samples: its images; the first is a key.
            durations: how long each is shown, in ticks.

        Raises:
            OSError: it cannot be written; the file is as it was.

        """
        table = self._fragment_table(samples, durations)
        begin = self._end + len(table) + 8
        self._append(table + _box(b"mdat", samples.data))
        self._begins.append(begin)
        self._counts.append(len(samples.sizes))
        self._keys.extend(len(self._sizes) + i + 1 for i, key in enumerate(samples.keys) if key)
        self._durations.extend(durations)
        self._ticks += sum(durations)
        self._sizes.extend(samples.sizes)

    def close(self) -> None:
        """Make it an ordinary MP4; safe to call twice.

        Raises:
            OSError: that cannot be written; the file stays a fragmented one.

        """
        if self._file.closed:
            return
        with self._file:
            end = self._end
            self._append(self._header(finished=True))
            # Last, and within one page: before it the file is a fragmented MP4, after it an ordinary one.
            self._file.seek(self._hole)
            self._file.write(struct.pack(">I4sQ", 1, b"mdat", end - self._hole))

    def _append(self, data: bytes) -> None:
        try:
            self._file.seek(self._end)
            if self._file.write(data) != len(data):  # a full disk takes the part that fits
                raise OSError(None, "disk full")
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._end)
            raise
        self._end += len(data)

    def _header(self, *, finished: bool) -> bytes:
        width, height = self._size_wh
        movie = _table(
            b"mvhd",
            1,
            0,
            struct.pack(">QQIQ", 0, 0, TICKS, self._ticks),
            struct.pack(">iH10x", 0x10000, 0x100),  # rate 1, volume 1
            _MATRIX,
            bytes(24),
            struct.pack(">I", _TRACK + 1),
        )
        track = _table(
            b"tkhd",
            1,
            3,  # in use, and part of the movie
            struct.pack(">QQIIQ", 0, 0, _TRACK, 0, self._ticks),
            bytes(16),
            _MATRIX,
            struct.pack(">II", width << 16, height << 16),
        )
        undetermined = 0x55C4  # the language
        media = _table(b"mdhd", 1, 0, struct.pack(">QQIQHH", 0, 0, TICKS, self._ticks, undetermined, 0))
        handler = _table(b"hdlr", 0, 0, bytes(4), b"vide", bytes(12), b"Video\0")
        here = _box(b"dinf", _table(b"dref", 0, 0, struct.pack(">I", 1), _table(b"url ", 0, 1)))
        tables = _box(b"stbl", self._description, *self._sample_tables())
        information = _box(b"minf", _table(b"vmhd", 0, 1, bytes(8)), here, tables)
        whole_track = _box(b"trak", track, _box(b"mdia", media, handler, information))
        if finished:
            return _box(b"moov", movie, whole_track)
        extends = _box(b"mvex", _table(b"trex", 0, 0, struct.pack(">5I", _TRACK, 1, 0, 0, 0)))
        return _box(b"moov", movie, whole_track, extends)

    def _sample_tables(self) -> Iterator[bytes]:
        durations = _runs(self._durations)
        yield _table(b"stts", 0, 0, _counted(durations, ">II"))
        if self._sizes:  # without it, every image is a key
            yield _table(b"stss", 0, 0, _counted([(key,) for key in self._keys], ">I"))
        per_chunk: list[tuple[int, int, int]] = []
        for number, images in enumerate(self._counts, 1):
            if not per_chunk or per_chunk[-1][1] != images:
                per_chunk.append((number, images, 1))
        yield _table(b"stsc", 0, 0, _counted(per_chunk, ">III"))
        yield _table(b"stsz", 0, 0, bytes(4), _counted([(size,) for size in self._sizes], ">I"))
        yield _table(b"co64", 0, 0, _counted([(begin,) for begin in self._begins], ">Q"))

    def _fragment_table(self, samples: Samples, durations: Sequence[int]) -> bytes:
        rows = b"".join(
            struct.pack(">III", ticks, size, _KEY if key else _NOT_KEY)
            for ticks, size, key in zip(durations, samples.sizes, samples.keys, strict=True)
        )
        number = _table(b"mfhd", 0, 0, struct.pack(">I", len(self._counts) + 1))
        from_here = 0x020000  # offsets count from the moof's begin
        which = _table(b"tfhd", 0, from_here, struct.pack(">I", _TRACK))
        when = _table(b"tfdt", 1, 0, struct.pack(">Q", self._ticks))
        has = 0x000701  # an offset; of each image duration, size and flags

        def whole(offset: int) -> bytes:
            run = _table(b"trun", 0, has, struct.pack(">Ii", len(samples.sizes), offset), rows)
            return _box(b"moof", number, _box(b"traf", which, when, run))

        return whole(len(whole(0)) + 8)


def read_samples(mp4: bytes) -> Samples:
    """The images of a small MP4 with one track whose samples lie one after another.

    Raises:
        ValueError: it is not one.

    """
    tables = _inside(mp4, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    boxes = dict(_boxes(tables))
    description = boxes.get(b"stsd")
    if description is None or b"stsz" not in boxes or b"stco" not in boxes:
        raise ValueError("not a finished MP4")
    same_size, count = struct.unpack_from(">II", boxes[b"stsz"], 4)
    sizes = (same_size,) * count if same_size else struct.unpack_from(f">{count}I", boxes[b"stsz"], 12)
    if b"stss" in boxes:
        n = struct.unpack_from(">I", boxes[b"stss"], 4)[0]
        numbers = set(struct.unpack_from(f">{n}I", boxes[b"stss"], 8))
        keys = tuple(i + 1 in numbers for i in range(count))
    else:
        keys = (True,) * count
    begin = struct.unpack_from(">I", boxes[b"stco"], 8)[0] if count else 0
    data = mp4[begin : begin + sum(sizes)]
    if len(data) != sum(sizes):
        raise ValueError("not a finished MP4")
    return Samples(_box(b"stsd", description), sizes, keys, data)


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _table(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """A "full box": with a version and flags."""
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _counted(rows: Sequence[tuple[int, ...]], form: str) -> bytes:
    return struct.pack(">I", len(rows)) + b"".join(struct.pack(form, *row) for row in rows)


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """(how many, of which) of equal neighbours."""
    return [(len(tuple(group)), value) for value, group in groupby(values)]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each box."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if length < head or at + length > len(data):
            raise ValueError("not an MP4")
        yield kind, data[at + head : at + length]
        at += length


def _inside(data: bytes, *path: bytes) -> bytes:
    for kind in path:
        data = next((content for found, content in _boxes(data) if found == kind), b"")
    return data
