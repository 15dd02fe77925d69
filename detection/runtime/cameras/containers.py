"""What a video file itself says of its images: how many are to be shown, and whether its end is there.

OpenCV's number of images is an estimate: duration times rate in Matroska and MPEG-TS, and in MP4 with images that an
edit list hides. Here the containers' own tables are counted: MP4 by ISO/IEC 14496-12, Matroska by RFC 9559, AVI by
its RIFF chunks.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_TABLES_AT_MOST = 256 << 20
"""Of an MP4, in bytes; a day of video has 30 MB of them."""


@dataclass(frozen=True)
class Contents:
    """What a container's own tables say.

    Attributes:
        images: that were to be shown, from the first that needs no other on; None where it does not say.
        whole: whether the file reaches as far as it says that it does, without a damaged stretch.
        may_begin_late: whether it may well begin between two key images, so that its first ones cannot be decoded.

    """

    images: int | None
    whole: bool
    may_begin_late: bool = False


def contents_of(path: Path) -> Contents | None:
    """Read the tables of a video file; None of containers that say nothing of it, or of damaged tables."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            size = os.fstat(file.fileno()).st_size
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
                return _mp4(file, size)
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return _matroska(file, size)
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                return _avi(file, size)
            if head[:1] == b"G":
                return _transport_stream(file)
    except (OSError, struct.error, ValueError, IndexError, KeyError, OverflowError, MemoryError):
        return None
    return None


def lacks_its_index(path: Path) -> bool:
    """Whether it is an MP4 whose writer did not get to write the table of its images."""
    try:
        with path.open("rb") as file:
            kinds = [kind for kind, _, _ in _top_boxes(file, os.fstat(file.fileno()).st_size)]
    except (OSError, struct.error, ValueError):
        return False
    return bool(kinds) and kinds[0] == b"ftyp" and b"moov" not in kinds


# --- MP4 ---


def _mp4(file: BinaryIO, size: int) -> Contents | None:
    shown = fragments = 0
    whole = True
    track = -1
    for kind, begin, end in _top_boxes(file, size):
        whole = whole and end <= size
        if kind not in (b"moov", b"moof"):
            continue
        if end - begin > _TABLES_AT_MOST:
            return None
        file.seek(begin)
        content = file.read(end - begin)
        if kind == b"moov":
            found = _video_track(content)
            if found is None:
                return None
            track, shown, last_byte = found
            whole = whole and last_byte <= size
        else:
            fragments += _fragment_images(content, track)
    return None if track < 0 else Contents(shown + fragments, whole)


def _top_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin and end of the content of each box of the file; the last may end beyond it."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", file.read(8))[0], 16
        elif length == 0:
            length = size - at
        if length < head:
            raise ValueError("not an MP4")
        yield kind, at + head, at + length
        at += length


def _boxes(data: bytes, at: int = 0) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if length < head:
            break
        found.setdefault(kind, []).append(data[at + head : at + length])
        at += length
    return found


def _video_track(moov: bytes) -> tuple[int, int, int] | None:
    """Number of the video track, how many of its images are shown, and the last byte that it refers to."""
    movie = _boxes(moov)
    header = movie[b"mvhd"][0]
    movie_ticks = struct.unpack_from(">I", header, 20 if header[0] else 12)[0]
    for content in movie.get(b"trak", []):
        track = _boxes(content)
        media = _boxes(track[b"mdia"][0])
        if media[b"hdlr"][0][8:12] != b"vide":
            continue
        tables = _boxes(_boxes(media[b"minf"][0])[b"stbl"][0])
        mdhd, tkhd = media[b"mdhd"][0], track[b"tkhd"][0]
        ticks = struct.unpack_from(">I", mdhd, 20 if mdhd[0] else 12)[0]
        number = struct.unpack_from(">I", tkhd, 20 if tkhd[0] else 12)[0]
        begins = _composition_times(tables)
        if b"stss" in tables and len(begins):
            first_key = struct.unpack_from(">I", tables[b"stss"][0], 8)[0]
            decodable = np.arange(1, len(begins) + 1) >= first_key
        else:
            decodable = np.ones(len(begins), bool)
        edits = _edits(_boxes(track[b"edts"][0])) if b"edts" in track else []
        if edits and len(begins):
            hidden = np.ones(len(begins), bool)
            for duration, begin in edits:
                until = begin + duration * ticks / movie_ticks if duration else np.inf
                hidden &= (begins < begin) | (begins >= until)
            decodable &= ~hidden
        return number, int(np.count_nonzero(decodable)), _last_byte(tables)
    return None


def _composition_times(tables: dict[bytes, list[bytes]]) -> NDArray[np.int64]:
    """When each sample is shown, in the media's ticks."""
    runs = _pairs(tables[b"stts"][0])
    if runs[:, 0].sum() > 1 << 27:
        raise ValueError("more images than a file can have")
    steps = np.repeat(runs[:, 1], runs[:, 0])
    times = np.concatenate(([0], np.cumsum(steps)[:-1])) if len(steps) else steps
    if b"ctts" in tables:
        offsets = _pairs(tables[b"ctts"][0])
        late = np.repeat(offsets[:, 1].astype(np.int32), offsets[:, 0])[: len(times)]  # signed in version 1
        times[: len(late)] += late
    return times


def _pairs(table: bytes) -> NDArray[np.int64]:
    count = struct.unpack_from(">I", table, 4)[0]
    return np.frombuffer(table, ">u4", 2 * count, 8).reshape(-1, 2).astype(np.int64)


def _edits(boxes: dict[bytes, list[bytes]]) -> list[tuple[int, int]]:
    """Duration (in the movie's ticks) and begin (in the media's) of what is shown."""
    if b"elst" not in boxes:
        return []
    table = boxes[b"elst"][0]
    count = struct.unpack_from(">I", table, 4)[0]
    form = ">Qqi" if table[0] else ">Iii"
    edits = [struct.unpack_from(form, table, 8 + i * struct.calcsize(form))[:2] for i in range(count)]
    return [(duration, begin) for duration, begin in edits if begin >= 0]


def _last_byte(tables: dict[bytes, list[bytes]]) -> int:
    """Where the last chunk begins, at least."""
    for kind, form in ((b"stco", ">u4"), (b"co64", ">u8")):
        if kind in tables:
            table = tables[kind][0]
            count = struct.unpack_from(">I", table, 4)[0]
            return int(np.frombuffer(table, form, count, 8).max()) + 1 if count else 0
    return 0


def _fragment_images(moof: bytes, track: int) -> int:
    count = 0
    for content in _boxes(moof).get(b"traf", []):
        fragment = _boxes(content)
        if struct.unpack_from(">I", fragment[b"tfhd"][0], 4)[0] == track:
            count += sum(struct.unpack_from(">I", run, 4)[0] for run in fragment.get(b"trun", []))
    return count


# --- Matroska and WebM ---

_SEGMENT, _CLUSTER, _TRACKS, _TRACK_ENTRY = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE
_TRACK_NUMBER, _TRACK_TYPE, _CODEC = 0xD7, 0x83, 0x86
_SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK, _REFERENCE = 0xA3, 0xA0, 0xA1, 0xFB
_UNKNOWN = -1
_HIDES_IMAGES = (b"V_VP8", b"V_VP9")  # some of their blocks are not shown, and do not say so


def _matroska(file: BinaryIO, size: int) -> Contents | None:
    segments = [(begin, end) for kind, begin, end in _elements(file, 0, size) if kind == _SEGMENT]
    if not segments:
        return None
    begin, end = segments[0]
    whole = end <= size
    video, images, codec = None, 0, b""
    try:
        for kind, inside, until in _elements(file, begin, min(end, size), into=(_CLUSTER,)):
            whole = whole and until <= size
            if kind == _TRACKS and video is None:
                video, codec = _matroska_video(file, inside, until)
            elif kind in (_SIMPLE_BLOCK, _BLOCK_GROUP) and video is not None and until <= size:
                number, key = _block(file, kind, inside, until)
                images += number == video and (images > 0 or key)
    except (ValueError, IndexError, KeyError):
        whole = False  # it is damaged on the way; FFmpeg goes on at the next cluster
    known = video is not None and not codec.startswith(_HIDES_IMAGES)
    return Contents(images if known and whole else None, whole)


def _elements(file: BinaryIO, at: int, end: int, into: tuple[int, ...] = ()) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of the content of each element; of those in `into`, and of unknown size, what is inside."""
    while at < end:
        file.seek(at)
        head = file.read(12)
        if len(head) < 2:
            return
        kind, used = _number(head, 0, keep_marker=True)
        length, after = _number(head, used, keep_marker=False)
        begin = at + after
        until = end if length == _UNKNOWN else begin + length
        yield kind, begin, until
        at = begin if kind in into else until


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    first = data[at]
    if first == 0:
        raise ValueError("not Matroska")
    length = 9 - first.bit_length()
    value = int.from_bytes(data[at : at + length], "big")
    if not keep_marker:
        value &= (1 << 7 * length) - 1
        if value == (1 << 7 * length) - 1:
            value = _UNKNOWN
    return value, at + length


def _matroska_video(file: BinaryIO, begin: int, end: int) -> tuple[int | None, bytes]:
    for kind, inside, until in list(_elements(file, begin, end)):
        if kind != _TRACK_ENTRY:
            continue
        fields = {}
        for name, at, last in _elements(file, inside, until):
            if name in (_TRACK_NUMBER, _TRACK_TYPE, _CODEC):
                file.seek(at)
                fields[name] = file.read(min(last - at, 64))
        if fields.get(_TRACK_TYPE) == b"\x01":
            return int.from_bytes(fields[_TRACK_NUMBER], "big"), fields.get(_CODEC, b"")
    return None, b""


def _block(file: BinaryIO, kind: int, begin: int, end: int) -> tuple[int, bool]:
    """Its track, and whether its image needs no other."""
    key = True
    if kind == _BLOCK_GROUP:
        parts = {name: at for name, at, _ in _elements(file, begin, end)}
        key, begin = _REFERENCE not in parts, parts[_BLOCK]
    file.seek(begin)
    head = file.read(12)
    number, used = _number(head, 0, keep_marker=False)
    return number, key and (kind == _BLOCK_GROUP or bool(head[used + 2] & 0x80))


# --- AVI ---


def _avi(file: BinaryIO, size: int) -> Contents:
    file.seek(0)
    header = file.read(4096)
    begin = header.find(b"avih")
    at = 0
    while at + 8 <= size:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF":
            break
        at += 8 + length + length % 2
    whole = at <= size + 1
    # The header counts empty chunks too, which stand for images that were left out.
    return Contents(None if whole or begin < 0 else struct.unpack_from("<I", header, begin + 24)[0], whole)


# --- MPEG-TS ---

_PACKET_BYTES, _PACKETS = 188, 50_000


def _transport_stream(file: BinaryIO) -> Contents | None:
    """By the packets in which an image's PES begins (ISO/IEC 13818-1); a stream has no end that could be missing."""
    file.seek(0)
    begins: dict[int, int] = {}
    whole = True
    while data := file.read(_PACKET_BYTES * _PACKETS):
        packets = np.frombuffer(data, np.uint8, len(data) // _PACKET_BYTES * _PACKET_BYTES).reshape(-1, _PACKET_BYTES)
        synchronous = packets[:, 0] == 0x47
        if len(packets) and not np.mean(synchronous) > 0.5:
            return None
        whole = whole and bool(synchronous.all())
        for packet in packets[synchronous & (packets[:, 1] & 0x40 > 0) & (packets[:, 3] & 0x10 > 0)]:
            at = 4 + (1 + int(packet[4]) if packet[3] & 0x20 else 0)
            if bytes(packet[at : at + 3]) == b"\0\0\1" and at + 3 < _PACKET_BYTES and packet[at + 3] & 0xF0 == 0xE0:
                number = (int(packet[1]) & 0x1F) << 8 | int(packet[2])
                begins[number] = begins.get(number, 0) + 1
    if not begins:
        return None
    return Contents(max(begins.values()) if whole else None, whole, may_begin_late=True)
