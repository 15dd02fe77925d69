"""TIFF: its first directory, which EXIF has too, and which TIFFs OpenCV decodes rightly."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from data.decoding.refusal import ImageRefused

ORIENTATION = 274
_SUBFILE = 254
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _STRIP_BYTES, _SAMPLES, _PLANAR = 273, 279, 277, 284
_TILES, _TILE_BYTES, _EXTRA, _FORMAT, _DNG = 324, 325, 338, 339, 50706

_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the types of numbers that are needed here
_BYTES_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_MOST_ENTRIES, _MOST_VALUES = 4096, 1 << 20
_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_COMPRESSION_NAMES = {6: "old JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard"}
_COMPRESSION_NAMES |= {50001: "WebP", 50002: "JPEG XL", 34892: "lossy DNG"}
_PHOTOMETRICS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}  # kind of colours -> its samples; the others are extra
_PHOTOMETRIC_NAMES = {0: "grey, 0 is white", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_PHOTOMETRIC_NAMES |= {32803: "Bayer mosaic", 34892: "linear raw"}
_GREY, _RGB = 1, 2
_UNASSOCIATED, _ASSOCIATED = 2, 1
_KINDS = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}


@dataclass(frozen=True)
class Directory:
    """The numbers of a TIFF's first directory.

    Attributes:
        order: "<" or ">", as `struct` writes it.
        values: tag -> its values.
        at: tag -> where its first value stands in the file, in bytes, and the `struct` code of its type.
        following: where the next directory stands, which is another image; 0 where there is none.

    """

    order: str
    values: Mapping[int, tuple[int, ...]]
    at: Mapping[int, tuple[int, str]]
    following: int

    def one(self, tag: int, otherwise: int) -> int:
        """The first value of a tag."""
        return self.values.get(tag, (otherwise,))[0]

    @property
    def orientation(self) -> int:
        """1 (upright) to 8."""
        value = self.one(ORIENTATION, 1)
        return value if 1 <= value <= 8 else 1


@dataclass(frozen=True)
class TiffImage:
    """What a TIFF's header says of its first image.

    Attributes:
        stored_hw: height and width as stored.
        orientation: 1 (upright) to 8.
        bits: 8 or 16: what a decoded sample has.
        ends: the byte after the last one of its pixels.
        patches: where in the file to write what before OpenCV decodes it: it turns a TIFF itself, and multiplies
            colours by their transparency.
        unread: what of the file is left out, in words.

    """

    stored_hw: tuple[int, int]
    orientation: int
    bits: int
    ends: int
    patches: tuple[tuple[int, bytes], ...]
    unread: tuple[str, ...]


def read_directory(file: IO[bytes], length: int, start: int | None = None) -> Directory:
    """A directory of a TIFF, or of EXIF.

    Args:
        file: a TIFF, BigTIFF too.
        length: of the file, in bytes.
        start: where the directory stands; None: the first one.

    Raises:
        ImageRefused: it cannot be read.

    """
    try:
        return _directory(file, length, start)
    except (struct.error, KeyError, OverflowError):
        raise ImageRefused("its TIFF header is damaged or cut short: copy it again or remove it") from None


def _directory(file: IO[bytes], length: int, start: int | None) -> Directory:
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    (magic,) = struct.unpack_from(f"{order}H", head, 2)
    big = magic == 43
    if start is None:
        (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
    count_code, entry_code, place_code = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    room = 8 if big else 4
    head_bytes, count_bytes = struct.calcsize(order + entry_code), struct.calcsize(order + count_code)
    if start >= length:
        raise KeyError
    file.seek(start)
    (count,) = struct.unpack(order + count_code, file.read(count_bytes))
    if not 0 < count <= _MOST_ENTRIES:
        raise KeyError
    body = file.read(count * (head_bytes + room) + room)
    values: dict[int, tuple[int, ...]] = {}
    at: dict[int, tuple[int, str]] = {}
    for number in range(count):
        offset = number * (head_bytes + room)
        tag, kind, n = struct.unpack_from(order + entry_code, body, offset)
        code, place = _CODES.get(kind), start + count_bytes + offset + head_bytes
        if tag not in _WANTED or code is None or not 0 < n <= _MOST_VALUES:
            continue
        if n * _BYTES_OF[kind] > room:
            (place,) = struct.unpack_from(order + place_code, body, offset + head_bytes)
            if place + n * _BYTES_OF[kind] > length:
                raise KeyError
        file.seek(place)
        values[tag] = struct.unpack(f"{order}{n}{code}", file.read(n * _BYTES_OF[kind]))
        at[tag] = place, code
    rest = body[count * (head_bytes + room) :]  # EXIF is sometimes cut after its last entry
    following = struct.unpack(order + place_code, rest)[0] if len(rest) == room else 0
    return Directory(order, values, at, following)


def read_tiff(file: IO[bytes], length: int) -> TiffImage:
    """The header of a TIFF.

    Args:
        file: the whole TIFF.
        length: of the file, in bytes.

    Raises:
        ImageRefused: it is damaged, or a kind of TIFF that is not read.

    """
    directory = read_directory(file, length)
    one, values = directory.one, directory.values
    height, width = one(_HEIGHT, 0), one(_WIDTH, 0)
    if height < 1 or width < 1:
        raise ImageRefused("its TIFF header is damaged: it names no size")
    if _DNG in values:
        raise ImageRefused("a camera's raw file (DNG): develop it to JPEG or to TIFF of 8 or 16 bits")
    samples, bits, photometric = one(_SAMPLES, 1), one(_BITS, 1), one(_PHOTOMETRIC, _GREY)
    _check_read(directory, samples, bits, photometric)
    extra = values.get(_EXTRA, ())
    alphas = sum(kind in (_ASSOCIATED, _UNASSOCIATED) for kind in extra)
    patches = []
    if directory.orientation != 1:
        patches.append(_patch(directory, ORIENTATION, 1))
    if bits <= 8 and extra[:1] == (_UNASSOCIATED,):
        patches.append(_patch(directory, _EXTRA, 0))
    unread = []
    colours = _PHOTOMETRICS[photometric]
    if samples - colours > alphas:
        read = "the first is read, as grey" if colours == 1 else "the first three are read, as red, green and blue"
        unread.append(f"{samples} bands: {read}")
    if directory.following and not _is_reduced(file, length, directory.following):
        unread.append("several images: the first one is read")
    starts, counts = (values.get(a, values.get(b, ())) for a, b in ((_STRIPS, _TILES), (_STRIP_BYTES, _TILE_BYTES)))
    ends = max((start + count for start, count in zip(starts, counts, strict=False)), default=0)
    return TiffImage(
        (height, width),
        directory.orientation,
        16 if bits == 16 else 8,
        ends,
        tuple(patches),
        tuple(unread),
    )


def _is_reduced(file: IO[bytes], length: int, start: int) -> bool:
    """Whether the directory there is of a smaller copy, or of a mask, of the image before it."""
    try:
        return bool(read_directory(file, length, start).one(_SUBFILE, 0) & 5)
    except ImageRefused:
        return True  # damaged, but not needed


def _check_read(directory: Directory, samples: int, bits: int, photometric: int) -> None:
    """Refuse, by name, what OpenCV decodes wrongly, or only in some of its builds."""
    kind, compression = directory.one(_FORMAT, 1), directory.one(_COMPRESSION, 1)
    pixels = f"{samples} band{'s' * (samples != 1)} of {bits}-bit {_KINDS.get(kind, '')}numbers"
    to_do = "write an RGB or grey TIFF or PNG of 8 or 16 bits from it"
    if samples > 4 or kind in _KINDS or bits not in (1, 4, 8, 16) or len(set(directory.values.get(_BITS, (1,)))) > 1:
        raise ImageRefused(f"a TIFF with {pixels}, which is not read: {to_do}")
    deep = bits == 16
    colours = _PHOTOMETRICS.get(photometric, 5)
    unknown = samples < colours or (colours == 1 and samples > 2)
    if unknown or (deep and (photometric not in (_GREY, _RGB) or samples == 2)):
        colour = _PHOTOMETRIC_NAMES.get(photometric, f"kind {photometric}")
        raise ImageRefused(f"a TIFF with {pixels} (colours: {colour}), which is not read: {to_do}")
    if deep and samples > 1 and directory.one(_PLANAR, 1) == 2:
        raise ImageRefused(f"a TIFF with {pixels}, one plane after the other, which is not read: {to_do}")
    if compression not in _COMPRESSIONS:
        name = _COMPRESSION_NAMES.get(compression, str(compression))
        raise ImageRefused(f"a TIFF with compression {name}, which is not read: write it with LZW or Deflate")


def _patch(directory: Directory, tag: int, value: int) -> tuple[int, bytes]:
    """Where to write what, so that the first value of a tag is `value`."""
    place, code = directory.at[tag]
    return place, struct.pack(directory.order + code, value)


_WANTED = frozenset(
    {ORIENTATION, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _STRIP_BYTES, _SAMPLES, _PLANAR}
) | {_TILES, _TILE_BYTES, _EXTRA, _FORMAT, _DNG, _SUBFILE}
