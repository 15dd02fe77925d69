"""What an image file says of itself, read without decoding it: kind, size, orientation, depth."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import IO

from detection.runtime.decoding.refusal import ImageRefused, named
from detection.runtime.decoding.tiff import read_directory, read_tiff

MAX_PIXELS = 180_000_000
"""The most pixels of an image: the largest sensors have 150 million, and more would exhaust the memory."""

MAX_BYTES = 2 << 30
"""The largest image file: OpenCV decodes no larger one."""

_SPARSE_PIXELS = 50_000_000  # from this size on a photo must hold some detail:
_SPARSE_PIXELS_PER_BYTE = 200  # photos have 0.2 to 20 pixels a byte, a PNG of one colour 340 to 8,000
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})  # JPEG's kinds of frame that are decoded everywhere
_NO_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
_MOST_SEGMENTS = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_OPENCV_SIDE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How large an image may be. It is checked before its pixels take memory.

    Attributes:
        most_pixels: the most pixels.
        sparse: whether a huge one may be nearly one colour throughout, as masks and maps are. A photo of that size
            is no photo, but made to exhaust the memory.
        too_large: what to do with a larger one.

    """

    most_pixels: int = MAX_PIXELS
    sparse: bool = False
    too_large: str = "cut it into tiles first (swath data tile)"


PHOTO = Limits()
MASK = Limits(sparse=True)
"""Of masks: they compress far better than photos."""

MAP = Limits((1 << 30) - 1, sparse=True, too_large="split it with GDAL first (gdal_retile.py -ps 8192 8192)")
"""Of what `swath data tile` cuts, an orthomosaic for example: as large as OpenCV decodes."""


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes:
        kind: "JPEG", "PNG", "BMP", "TIFF" or "WebP".
        stored_hw: height and width as stored.
        orientation: of EXIF or TIFF, 1 (upright) to 8.
        bits: 8 or 16 a channel, as decoded.
        body: where the pixels begin (JPEG), or the byte after their last one.
        patches: see `TiffImage`.
        unread: what of the file is left out, in words.

    """

    kind: str
    stored_hw: tuple[int, int]
    orientation: int = 1
    bits: int = 8
    body: int = 0
    patches: tuple[tuple[int, bytes], ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def displayed_hw(self) -> tuple[int, int]:
        """Height and width as displayed: the orientation applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(file: IO[bytes], limits: Limits = PHOTO) -> Header:
    """The header of an image file.

    Args:
        file: opened for reading; any position.
        limits: of its size.

    Raises:
        ImageRefused: it is no image, damaged, too large, or of a kind that is not read.

    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(64)
    if not length:
        raise ImageRefused("the image file is empty (0 bytes): copy it again or remove it")
    reads = next((reads for beginning, reads in _KINDS if start.startswith(beginning)), None)
    if reads is None or (reads is _webp and start[8:12] != b"WEBP"):
        known = named(start)
        raise ImageRefused(known or "not an image that can be read, or its beginning is damaged")
    try:
        header = reads(file, length)
    except (struct.error, IndexError, KeyError, OverflowError):
        raise ImageRefused("its beginning is damaged or cut short: copy it again or remove it") from None
    height, width = header.stored_hw
    if height < 1 or width < 1:
        raise ImageRefused("its header is damaged: it names no size")
    _check_size(height, width, length, limits)
    return header


def _check_size(height: int, width: int, length: int, limits: Limits) -> None:
    pixels, shown = height * width, f"{width} x {height}"
    if pixels > limits.most_pixels or max(height, width) >= _OPENCV_SIDE:
        wide = pixels <= limits.most_pixels
        most = f"{_OPENCV_SIDE - 1} a side" if wide else f"{limits.most_pixels // 1_000_000} megapixels"
        raise ImageRefused(f"{shown} pixels, more than the {most} that are read at once: {limits.too_large}")
    if not limits.sparse and pixels > _SPARSE_PIXELS and pixels > _SPARSE_PIXELS_PER_BYTE * length:
        raise ImageRefused(
            f"{shown} pixels in {length} bytes: no photo, but nearly one colour throughout, or a decompression "
            "bomb: remove it, or, if it is a map, cut it into tiles (swath data tile)"
        )


def _jpeg(file: IO[bytes], length: int) -> Header:
    at, orientation, frame = 2, 1, None
    for _ in range(_MOST_SEGMENTS):
        file.seek(at)
        head = file.read(4)
        if head[0] != 0xFF:  # bytes between segments, which decoders skip
            at += 1
            continue
        marker = head[1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        if marker == 0xD9:
            break
        (size,) = struct.unpack_from(">H", head, 2)
        if marker == 0xDA and frame is not None:
            return Header("JPEG", frame, orientation, body=at)
        if marker == 0xE1:
            content = file.read(size - 2)
            if content.startswith(b"Exif\0\0"):
                orientation = _exif_orientation(content[6:])
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAMES:
            frame = _jpeg_frame(marker, file.read(6))
        at += 2 + size
    raise IndexError


def _jpeg_frame(marker: int, content: bytes) -> tuple[int, int]:
    precision, height, width, components = struct.unpack(">BHHB", content)
    if marker not in _FRAMES or precision != 8 or components not in (1, 3, 4):
        kind = "lossless" if marker in (0xC3, 0xC7, 0xCB, 0xCF) else "hierarchical"
        kind = f"{precision}-bit" if marker in _FRAMES else kind
        raise ImageRefused(
            f"a {kind} JPEG of {components} bands, which is not read: convert it to an ordinary JPEG or to PNG"
        )
    return height, width


def _png(file: IO[bytes], length: int) -> Header:
    file.seek(8)
    orientation, size, bits, bands = 1, None, 8, 0
    at, more = 8, False
    while at + 12 <= length:
        file.seek(at)
        count, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"IHDR":
            width, height, bits, colour = struct.unpack(">IIBB", file.read(10))
            size, bands = (height, width), _PNG_BANDS[colour]
        elif kind == b"eXIf":
            orientation = _exif_orientation(file.read(min(count, length)))
        elif kind == b"acTL":
            more = True
        at += 12 + count
        if kind == b"IEND":
            break
    if size is None or not bands:
        raise IndexError
    unread = ("an animation: its still image is read",) if more else ()
    return Header("PNG", size, orientation, 16 if bits == 16 else 8, unread=unread)


def _bmp(file: IO[bytes], length: int) -> Header:
    file.seek(10)
    start, head = struct.unpack("<II", file.read(8))
    if head == 12:  # OS/2
        width, height, _, bits = struct.unpack("<HHHH", file.read(8))
        packing = 0
    else:
        width, height, _, bits, packing = struct.unpack("<iiHHI", file.read(16))
    if packing in (4, 5):
        raise ImageRefused("a BMP that wraps a JPEG or PNG, which is not read: convert it to PNG")
    rows = (width * bits + 31) // 32 * 4 * abs(height)
    return Header("BMP", (abs(height), width), body=start + rows if packing in (0, 3) else 0)


def _tiff(file: IO[bytes], length: int) -> Header:
    tiff = read_tiff(file, length)
    return Header("TIFF", tiff.stored_hw, tiff.orientation, tiff.bits, tiff.ends, tiff.patches, tiff.unread)


def _webp(file: IO[bytes], length: int) -> Header:
    file.seek(4)
    (size,) = struct.unpack("<I", file.read(4))
    ends, at, orientation, found = size + 8, 12, 1, None
    while at + 8 <= min(ends, length):
        file.seek(at)
        kind, count = struct.unpack("<4sI", file.read(8))
        if kind == b"VP8X":
            flags, width, height = struct.unpack("<I3s3s", file.read(10))
            found = int.from_bytes(height, "little") + 1, int.from_bytes(width, "little") + 1
            if flags & 2:
                raise ImageRefused("an animated WebP, which is not read: write its images as PNG or JPEG")
        elif kind == b"VP8 " and found is None:
            _, width, height = struct.unpack("<6sHH", file.read(10))
            found = height & 0x3FFF, width & 0x3FFF
        elif kind == b"VP8L" and found is None:
            _, packed = struct.unpack("<BI", file.read(5))
            found = (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
        elif kind == b"EXIF":
            orientation = _exif_orientation(file.read(min(count, length)).removeprefix(b"Exif\0\0"))
        at += 8 + count + count % 2
    if found is None:
        raise IndexError
    return Header("WebP", found, orientation, body=ends)


def _exif_orientation(content: bytes) -> int:
    """1 where the EXIF is damaged: a viewer shows such a photo as stored."""
    try:
        return read_directory(io.BytesIO(content), len(content)).orientation
    except ImageRefused:
        return 1


_KINDS = (
    (b"\xff\xd8", _jpeg),
    (_PNG, _png),
    (b"BM", _bmp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    (b"RIFF", _webp),
)
