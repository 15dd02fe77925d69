"""Pixels without a file's header, as ROS and Foxglove messages hold them: by the encoding's name to BGR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.decoding.header import MAX_PIXELS
from detection.runtime.decoding.pixels import NoteKind, eight_bits
from detection.runtime.decoding.refusal import ImageRefused


@dataclass(frozen=True)
class _Encoding:
    """How an encoding lies in memory.

    Attributes:
        channels: numbers a pixel in a row; 1 where chroma follows in rows of its own.
        conversion: OpenCV's to BGR; None: it is BGR.
        bits: of a number.
        chroma_rows: whether half as many rows again follow, with the chroma of 2 x 2 pixels.

    """

    channels: int
    conversion: int | None
    bits: int = 8
    chroma_rows: bool = False


_COLOURS: dict[str, tuple[int, int | None]] = {
    "bgr": (3, None),
    "rgb": (3, cv2.COLOR_RGB2BGR),
    "bgra": (4, cv2.COLOR_BGRA2BGR),
    "rgba": (4, cv2.COLOR_RGBA2BGR),
    "mono": (1, cv2.COLOR_GRAY2BGR),
    "bayer_rggb": (1, cv2.COLOR_BayerRGGB2BGR),
    "bayer_bggr": (1, cv2.COLOR_BayerBGGR2BGR),
    "bayer_gbrg": (1, cv2.COLOR_BayerGBRG2BGR),
    "bayer_grbg": (1, cv2.COLOR_BayerGRBG2BGR),
}
_ENCODINGS = {f"{name}{bits}": _Encoding(n, how, bits) for bits in (8, 16) for name, (n, how) in _COLOURS.items()}
_ENCODINGS |= {
    "8UC1": _Encoding(1, cv2.COLOR_GRAY2BGR),
    "8UC3": _Encoding(3, None),
    "8UC4": _Encoding(4, cv2.COLOR_BGRA2BGR),
    "16UC3": _Encoding(3, None, 16),
    "16UC4": _Encoding(4, cv2.COLOR_BGRA2BGR, 16),
    **dict.fromkeys(("yuv422", "uyvy", "yuv422_uyvy"), _Encoding(2, cv2.COLOR_YUV2BGR_UYVY)),
    **dict.fromkeys(("yuv422_yuy2", "yuyv", "yuy2"), _Encoding(2, cv2.COLOR_YUV2BGR_YUYV)),
    "yvyu": _Encoding(2, cv2.COLOR_YUV2BGR_YVYU),
    "nv12": _Encoding(1, cv2.COLOR_YUV2BGR_NV12, chroma_rows=True),
    "nv21": _Encoding(1, cv2.COLOR_YUV2BGR_NV21, chroma_rows=True),
    "i420": _Encoding(1, cv2.COLOR_YUV2BGR_I420, chroma_rows=True),
    "yv12": _Encoding(1, cv2.COLOR_YUV2BGR_YV12, chroma_rows=True),
}
ENCODINGS = tuple(_ENCODINGS)
"""The encodings that are read, by their names in ROS, Foxglove and V4L."""

_BY_LOWER = {name.lower(): encoding for name, encoding in _ENCODINGS.items()}
_DEPTH = frozenset({"16uc1", "32fc1", "64fc1", "32sc1", "16sc1"})


def from_pixels(
    content: bytes, height: int, width: int, step: int, encoding: str, *, big_endian: bool = False
) -> tuple[NDArray[np.uint8], tuple[tuple[NoteKind, str], ...]]:
    """An image as uint8 (H, W, 3) BGR, and what is to be said of it, from the fields of `sensor_msgs/Image`.

    Args:
        content: the rows, one after the other.
        height: of the image in pixels.
        width: of the image in pixels.
        step: bytes from one row to the next; 0 where the message does not say.
        encoding: one of `ENCODINGS`, in any case.
        big_endian: the order of the bytes of 16-bit numbers.

    Raises:
        ImageRefused: an encoding that is not read, fields that do not fit together, or 16 bits and nearly black.

    """
    known = _BY_LOWER.get(encoding.strip().lower())
    if known is None:
        what = "numbers without a colour, such as depth" if encoding.strip().lower() in _DEPTH else "not read"
        raise ImageRefused(f"encoding {encoding[:40]!r}: {what}; read are {', '.join(ENCODINGS)}")
    row_bytes = width * known.channels * known.bits // 8
    step = step or row_bytes
    rows = height * 3 // 2 if known.chroma_rows else height
    odd = (known.chroma_rows and height % 2) or ((known.chroma_rows or known.channels == 2) and width % 2)
    if not 0 < height * width <= MAX_PIXELS or step < row_bytes or odd:
        raise ImageRefused(f"{width} x {height} pixels of {encoding} in rows of {step} bytes: that cannot be")
    if len(content) < (rows - 1) * step + row_bytes:
        raise ImageRefused(f"{width} x {height} pixels of {encoding} in {len(content)} bytes: cut short")
    padded = np.zeros(rows * step, np.uint8) if len(content) < rows * step else None
    flat = np.frombuffer(content, np.uint8, min(len(content), rows * step))
    if padded is not None:  # the last row may come without its padding
        padded[: len(flat)] = flat
        flat = padded
    order: Any = ">u2" if big_endian else "<u2"
    numbers = np.ascontiguousarray(flat.reshape(rows, step)[:, :row_bytes])
    pixels = numbers if known.bits == 8 else numbers.view(order).astype(np.uint16)
    shaped = pixels.reshape((rows, width) if known.channels == 1 else (rows, width, known.channels))
    # A copy where nothing is converted: the message's memory cannot be written to.
    colours = shaped.copy() if known.conversion is None else cv2.cvtColor(shaped, known.conversion)
    return eight_bits(np.asarray(colours))
