"""An image file's bytes -> its pixels: uint8 (H, W, 3) BGR, upright."""

from __future__ import annotations

import io
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from data.decoding.header import MAX_BYTES, PHOTO, Header, Limits, read_header
from data.decoding.refusal import ImageRefused

NoteKind = Literal["image-dark", "image-partly-read"]
"""What is said of an image that is read: it is dark, or a part of it is left out."""

_BLACK_BELOW = 1 << 12  # of 16 bits: all of such an image is below 16 of 255
_DARK_BELOW = 1 << 14
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Decode a JPEG at 1/n of the size: OpenCV's flag for each n. libjpeg rounds sides up."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A decoded image.

    Attributes:
        image: uint8 (H, W, 3), BGR, upright.
        header: of its file.
        notes: what was left out or assumed: kind and words.

    """

    image: NDArray[np.uint8]
    header: Header
    notes: tuple[tuple[NoteKind, str], ...] = ()


def decode(content: bytes, limits: Limits = PHOTO, *, reduced: int = 1, header: Header | None = None) -> Decoded:
    """Decode an image file.

    Args:
        content: of a JPEG, PNG, BMP, TIFF or WebP file.
        limits: of its size.
        reduced: decode a JPEG at 1/2, 1/4 or 1/8 of its size.
        header: of this very file, where it was read already.

    Raises:
        ImageRefused: it is no image, damaged, cut short, too large, of a kind that is not read, or 16-bit and
            nearly black.

    """
    header = read_header(io.BytesIO(content), limits) if header is None else header
    _check_whole(content, header)
    deep = header.bits == 16
    # The orientation is left to `_upright`: OpenCV turns some kinds of files and not others.
    flags = _REDUCED[reduced] | cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_ANYDEPTH if deep else 0)
    stored = np.frombuffer(_patched(content, header), np.uint8)
    try:
        with _quiet_opencv():
            found = cv2.imdecode(stored, flags)
    except cv2.error as error:
        raise ImageRefused(f"cannot be decoded ({str(error).strip().splitlines()[-1]})") from None
    height, width = (-(-side // reduced) for side in header.stored_hw)
    if found is None or found.shape != (height, width, 3) or found.dtype != (np.uint16 if deep else np.uint8):
        raise ImageRefused("cannot be decoded: the file is damaged; copy it again or remove it")
    image, notes = eight_bits(found)
    notes += tuple(("image-partly-read", words) for words in header.unread)
    return Decoded(_upright(image, header.orientation), header, notes)


def eight_bits(image: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[tuple[NoteKind, str], ...]]:
    """The upper byte of 16-bit samples: 0 is black and 65535 white in every file, whatever is in it.

    Stretching each image to its own brightest sample would show one plant in another colour beside a white stone.

    Args:
        image: uint8 or uint16, any shape.

    Returns:
        uint8 of the same shape, and what is to be said.

    Raises:
        ImageRefused: 16 bits of which the upper four are never used, so that the image would be nearly black.

    """
    if image.dtype == np.uint8:
        return image, ()
    brightest = int(image.max(initial=0))
    if brightest < _BLACK_BELOW:
        raise ImageRefused(
            f"16 bits a channel of which the brightest is {brightest} of 65535: nearly black. Are these 12 bits or "
            "fewer in 16? Multiply them (12 bits by 16, 10 by 64) or write them as 8 bits"
        )
    notes: tuple[tuple[NoteKind, str], ...] = ()
    if brightest < _DARK_BELOW:
        words = f"16 bits a channel of which the brightest is {brightest} of 65535: dark. Are these 14 bits in 16?"
        notes = (("image-dark", words),)
    return (image >> 8).astype(np.uint8), notes


def decode_file(path: Path, limits: Limits = PHOTO, reduced_for: Callable[[Header], int] | None = None) -> Decoded:
    """Decode an image file; its header is looked at before the rest is read.

    Args:
        path: a regular file; a pipe or a device would hang or never end, and is refused.
        limits: of its size.
        reduced_for: chooses, for a JPEG, 1/n of the size to decode it at.

    Raises:
        ImageRefused: see `decode`.
        OSError: it cannot be opened or read.

    """
    with open_image(path) as file:
        header = read_header(file, limits)
        length = file.seek(0, os.SEEK_END)
        if length > MAX_BYTES:
            raise ImageRefused(f"larger than {MAX_BYTES >> 30} GiB: {limits.too_large}")
        file.seek(0)
        content = file.read(length)
    reduced = reduced_for(header) if reduced_for and header.kind == "JPEG" else 1
    return decode(content, limits, reduced=reduced, header=header)


def open_image(path: Path) -> IO[bytes]:
    """Open a regular file; never waits for a pipe, never reads a device.

    Raises:
        ImageRefused: it is no regular file.
        OSError: it cannot be opened.

    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:  # a NUL or half a character in the name
        raise ImageRefused("no such file can be: its name holds characters that no file name can") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ImageRefused("cannot be read: a folder, pipe or device, not a file")
    return os.fdopen(handle, "rb")


def _check_whole(content: bytes, header: Header) -> None:
    """Look for the end: OpenCV fills what is missing with grey, or with nothing, and reports nothing."""
    if header.kind == "JPEG":
        # Inside a scan 0xFF is always stuffed: these two bytes can only be the end marker.
        whole = content.find(b"\xff\xd9", header.body) >= 0
    elif header.kind == "PNG":
        whole = _png_is_whole(content)
    else:
        whole = len(content) >= header.body
    if not whole:
        raise ImageRefused("the image is cut short (its end is missing): copy it again or remove it")


def _png_is_whole(content: bytes) -> bool:
    view, at = memoryview(content), 8
    while at + 12 <= len(content):
        count, kind = int.from_bytes(view[at : at + 4], "big"), bytes(view[at + 4 : at + 8])
        end = at + 8 + count
        if end + 4 > len(content):
            return False
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ImageRefused("the image is damaged (a checksum in it is wrong): copy it again or remove it")
        if kind == b"IEND":
            return True
        at = end + 4
    return False


def _patched(content: bytes, header: Header) -> bytes | bytearray:
    if not header.patches:
        return content
    patched = bytearray(content)
    for at, value in header.patches:
        patched[at : at + len(value)] = value
    return patched


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a stored image (H, W, 3) the way its orientation tells."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


_decoding = threading.Lock()
_quiet = 0  # how many threads are inside of `_quiet_opencv`
_level: Any = None


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """No messages of OpenCV on stderr: our own error says what failed. Its level belongs to the whole process."""
    global _quiet, _level
    logging: Any = cv2.utils.logging
    with _decoding:
        if not _quiet:
            _level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        _quiet += 1
    try:
        yield
    finally:
        with _decoding:
            _quiet -= 1
            if not _quiet:
                logging.setLogLevel(_level)
