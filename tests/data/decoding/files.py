"""Image files of every depth, number of bands and orientation, written byte by byte or by Pillow and OpenCV."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, ...) as stored -> as displayed; the table of EXIF 2.32, tag 274."""
    return {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
        8: np.rot90,
    }[orientation](image)


def exif(orientation: int) -> bytes:
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 274, 3, 1, orientation, 0) + bytes(4)


def tiff(
    image: np.ndarray,
    orientation: int = 1,
    *,
    order: str = "<",
    extra: tuple[int, ...] | None = None,
    planar: int = 1,
    compression: int = 1,
    tags: dict[int, list[int]] | None = None,
) -> bytes:
    """A TIFF of an image (H, W, C), in one strip (of each plane); `tags` are SHORTs that are added or replaced."""
    height, width, bands = image.shape
    planes = [image] if planar == 1 else list(image.transpose(2, 0, 1))
    strips = [np.ascontiguousarray(p.astype(p.dtype.newbyteorder(order))).tobytes() for p in planes]
    strips = [zlib.compress(strip) for strip in strips] if compression == 8 else strips
    colours = 3 if bands >= 3 else 1
    shorts = {
        258: [image.dtype.itemsize * 8] * bands,
        259: [compression],
        262: [2 if colours == 3 else 1],
        274: [orientation],
        277: [bands],
        284: [planar],
        339: [{"u": 1, "i": 2, "f": 3}[image.dtype.kind]] * bands,
    }
    if bands > colours:
        shorts[338] = list(extra if extra is not None else (0,) * (bands - colours))
    longs = {256: [width], 257: [height], 273: [0] * len(strips), 278: [height], 279: [len(s) for s in strips]}
    entries = {tag: ("H", 3, values) for tag, values in (shorts | (tags or {})).items()}
    entries |= {tag: ("I", 4, values) for tag, values in longs.items()}
    packed = {tag: struct.calcsize(code) * len(values) for tag, (code, _, values) in entries.items()}
    at = 8 + 2 + 12 * len(entries) + 4
    first_strip = at + sum(size for size in packed.values() if size > 4)
    starts = [first_strip + sum(map(len, strips[:n])) for n in range(len(strips))]
    entries[273] = ("I", 4, starts)
    table, values_at = b"", b""
    for tag, (code, kind, values) in sorted(entries.items()):
        raw = struct.pack(order + code * len(values), *values)
        if len(raw) > 4:
            place, values_at = struct.pack(order + "I", at + len(values_at)), values_at + raw
        else:
            place = raw.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + table + bytes(4) + values_at + b"".join(strips)


def png(image: np.ndarray, orientation: int = 1) -> bytes:
    """A PNG of an image (H, W, C) of 1 to 4 bands: grey, grey and transparency, RGB, RGB and transparency."""
    height, width, bands = image.shape
    bits = image.dtype.itemsize * 8
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in image)
    head = struct.pack(">IIBBBBB", width, height, bits, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"eXIf", exif(orientation)), (b"IEND", b"")]
    if orientation == 1:
        del chunks[2]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def by_pillow(kind: str, image: np.ndarray, orientation: int = 1) -> bytes:
    """A JPEG, WebP (without loss) or BMP of an image (H, W, C) of 8 bits; four bands of a JPEG are CMYK."""
    mode = "CMYK" if kind == "JPEG" and image.shape[2] == 4 else None
    squeezed: Any = image[..., 0] if image.shape[2] == 1 else image
    options: dict[str, Any] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
    if orientation != 1 and kind != "BMP":
        options[kind]["exif"] = b"Exif\0\0" + exif(orientation)
    out = io.BytesIO()
    Image.fromarray(squeezed, mode).save(out, kind, **options.get(kind, {}))
    return out.getvalue()


def plain_bgr(content: bytes) -> np.ndarray:
    """A file of orientation 1, as OpenCV decodes it: what a JPEG's loss leaves."""
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR))


def sparse_png(side: int) -> bytes:
    """A PNG of one grey: some kilobytes, whatever its size."""
    rows = zlib.compressobj(9)
    body = b"".join(rows.compress(bytes((side + 1) * 100)) for _ in range(side // 100)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    )
