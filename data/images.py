"""Image files read upright: their pixels, size or EXIF orientation, or a `DataError`."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from data.errors import DataError
from data.files import open_regular

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""The suffixes of images in a folder, lower case."""

MAX_PIXELS = 180_000_000
"""The most pixels of an image: the largest sensors have 150 million, and more would exhaust the memory."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # Pillow knows stranger ones, some of which start programs
_MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_MAX_BYTES = 2 << 30
_BOMB_PIXELS = 50_000_000  # from this size on an image must hold some detail:
_BOMB_PIXELS_PER_BYTE = 200  # photos have 0.2 to 20 pixels a byte, a PNG of one colour 340 to 8,000
_QUIET = threading.Lock()
_EXIF_ORIENTATION = 0x0112
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Decode at 1/n of the size: OpenCV's flag for each n. libjpeg rounds sides up."""
_GENTLE = 0.6


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image the way a viewer shows it, EXIF orientation applied.

    Args:
        path: JPEG, PNG, BMP, TIFF or WebP, 8 bits a channel (16-bit PNG is reduced to 8);
            grey images get three equal channels, transparency is dropped.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        DataError: the file is missing, empty, cut short, or not an image that can be decoded.

    """
    return _read(path, None)[0]


def read_image_at(path: Path, size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode an image at a smaller size, and a large JPEG without decoding all of it.

    Shrinking averages pixel areas, as the letterbox does. A JPEG is decoded at 1/n of its size where
    `_decoded_part` allows it (libjpeg scales its 8 x 8 blocks in the frequency domain). No side is enlarged.

    Args:
        path: as `read_image` takes it.
        size_hw: height and width that the whole image must have, as displayed.
        wanted_hw: height and width to return, at most `size_hw`.

    Returns:
        uint8 (*wanted_hw, 3), BGR.

    Raises:
        DataError: as `read_image`, or the image has another size than `size_hw`.

    """
    image, found_hw = _read(path, wanted_hw)
    if found_hw != size_hw:
        raise DataError(f"{path}: changed its size since its labels were read")
    if image.shape[:2] == wanted_hw:
        return image
    # What libjpeg has shrunk has little left that could alias; averaging it by a factor near 1 would blur.
    gentle = image.shape[:2] != size_hw and wanted_hw[1] > _GENTLE * image.shape[1]
    how = cv2.INTER_LINEAR if gentle else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, wanted_hw[::-1], interpolation=how), np.uint8)


def working_hw(size_hw: tuple[int, int], scale_range: tuple[float, float]) -> tuple[int, int]:
    """The size at which training works on an image: never less than the network will see of it.

    What is cut out of the image at this size is not enlarged on its way into the input, up to whole
    pixels. Where that way is always the same, it is gone at once; where it depends on the crop, an image
    is only decoded smaller: averaging areas twice by factors near 1 would cost it a third of its fine detail.

    Args:
        size_hw: height and width of the whole image.
        scale_range: the fewest and the most input pixels that one of its pixels can become.

    """
    (height, width), (smallest, largest) = size_hw, scale_range
    if largest >= 1:
        return size_hw
    wanted_hw = max(1, round(height * largest)), max(1, round(width * largest))
    if smallest == largest:
        return wanted_hw
    n = _decoded_part(size_hw, wanted_hw)
    return -(-height // n), -(-width // n)


def read_mask(path: Path) -> NDArray[np.int64]:
    """The numbers in a PNG of one channel, palette indices included, as stored: int64 (H, W).

    Raises:
        DataError: the file is missing, damaged, no PNG, or has several channels.

    """
    try:
        with open_regular(path) as file, _opened(file, path) as opened:
            if opened.format != "PNG" or opened.mode not in _MASK_MODES:
                kind = f"{opened.format} of {opened.mode} pixels"
                raise DataError(f"{path}: a mask is a PNG with one channel of instance numbers, this is {kind}")
            return np.asarray(opened).astype(np.int64)
    except FileNotFoundError as error:
        raise _unreadable(path, error) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError(f"{path}: the mask is damaged or cut short ({error})") from None


def image_size_hw(path: Path) -> tuple[int, int]:
    """Height and width of an image as displayed (EXIF orientation applied), read from its header.

    Raises:
        DataError: the file is missing, empty or not an image.

    """
    (height, width), orientation = image_header(path)
    return (width, height) if orientation >= 5 else (height, width)


def image_header(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width of an image as stored, and its EXIF orientation, 1 (upright) to 8.

    Raises:
        DataError: the file is missing, empty or not an image.

    """
    try:
        with open_regular(path) as file, _opened(file, path) as header:
            width, height = header.size
            return (height, width), _orientation(header)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def upright_boxes(
    boxes_xyxy: NDArray[np.float64], stored_hw: tuple[int, int], orientation: int
) -> NDArray[np.float64]:
    """Boxes (N, 4) drawn on the image as stored -> boxes on the image as displayed.

    Args:
        boxes_xyxy: absolute pixels of the stored image, continuous corners.
        stored_hw: height and width of the stored image.
        orientation: EXIF orientation, 1 to 8.

    """
    height, width = stored_hw
    x1, y1, x2, y2 = boxes_xyxy.reshape(-1, 4).T
    left, right, top, bottom = (x1, x2), (width - x2, width - x1), (y1, y2), (height - y2, height - y1)
    # (span along x, span along y) in the displayed image
    spans = {
        1: (left, top),
        2: (right, top),
        3: (right, bottom),
        4: (left, bottom),
        5: (top, left),
        6: (bottom, left),
        7: (bottom, right),
        8: (top, right),
    }
    along_x, along_y = spans[orientation]
    return np.stack([along_x[0], along_y[0], along_x[1], along_y[1]], axis=1)


def _read(path: Path, wanted_hw: tuple[int, int] | None) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """The image, not smaller than `wanted_hw` (None: whole), and the whole image's size; both as displayed."""
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: larger than {_MAX_BYTES >> 30} GiB, so no photo: remove it")
    with _opened(io.BytesIO(content), path) as header:
        kind, (width, height), orientation = header.format, header.size, _orientation(header)
        displayed_hw = (width, height) if orientation >= 5 else (height, width)
        # OpenCV fills the missing part of a cut JPEG with grey and reports nothing to its caller, so the
        # end is looked for first. Other kinds are rare in the field: Pillow is slower, and strict.
        if kind in ("JPEG", "MPO"):
            whole = _jpeg_has_end(content)
        elif kind == "PNG":
            whole = b"IEND" in content[-4096:]
        else:
            return _upright(_decoded_by_pillow(header, path), orientation), displayed_hw
    if not whole:
        raise DataError(f"{path}: the image is cut short (its end is missing): copy it again or remove it")
    divisor = 1 if wanted_hw is None or kind == "PNG" else _decoded_part(displayed_hw, wanted_hw)
    try:
        # Orientation is left to `_upright`, so that this and `image_size_hw` cannot disagree.
        flags = _REDUCED[divisor] | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded ({str(error).strip().splitlines()[-1]})") from None
    if image is None or image.shape[:2] != (-(-height // divisor), -(-width // divisor)):
        raise DataError(f"{path}: cannot be decoded: the file is damaged; copy it again or remove it")
    return _upright(np.asarray(image, np.uint8), orientation), displayed_hw


def _decoded_part(size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> int:
    """1/n of the size at which to decode a JPEG: a half where that is enough, less where it is twice enough.

    libjpeg's quarters and eighths lose fine texture that averaging keeps, so some of that is left to do.
    """
    for n, enough in ((8, 2), (4, 2), (2, 1)):
        if all(-(-side // n) >= enough * wanted for side, wanted in zip(size_hw, wanted_hw, strict=True)):
            return n
    return 1


def _opened(file: IO[bytes], path: Path) -> Image.Image:
    """Pillow's view of a file's header."""
    if not file.read(1):
        raise DataError(f"{path}: the image file is empty (0 bytes): copy it again or remove it")
    file.seek(0)
    try:
        with _pillow_quiet():
            header = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read, or its beginning is damaged") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: far too large to be one photo: cut it into tiles first") from None
    except (OSError, ValueError, SyntaxError, struct.error, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: the image's header cannot be read ({error})") from None
    pixels, length = header.size[0] * header.size[1], file.seek(0, os.SEEK_END)
    if pixels > MAX_PIXELS:
        raise DataError(f"{path}: far too large to be one photo: cut it into tiles first")
    if pixels > _BOMB_PIXELS and pixels > _BOMB_PIXELS_PER_BYTE * length:
        raise DataError(
            f"{path}: {header.size[0]} x {header.size[1]} pixels in {length} bytes is no photo but a "
            "decompression bomb: remove it"
        )
    return header


@contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Without Pillow's warnings: of large images, whose limit is ours, and of damaged tags, which it skips."""
    with _QUIET, warnings.catch_warnings():  # filters belong to the whole process: one thread at a time
        warnings.simplefilter("ignore")
        yield


def _unreadable(path: Path, error: OSError | ValueError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such image file")
    return DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


def _orientation(header: Image.Image) -> int:
    try:
        with _pillow_quiet():
            value = header.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds on damaged EXIF; a viewer shows such a photo as stored
        return 1
    return value if value in range(1, 9) else 1


def _jpeg_has_end(content: bytes) -> bool:
    """Whether the end marker follows the first scan (a thumbnail in the header has an end of its own)."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xDA:
            # Inside a scan 0xFF is always stuffed: these two bytes can only be the end marker.
            return content.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return False


def _decoded_by_pillow(header: Image.Image, path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) BGR of an opened image, as stored."""
    if header.mode.startswith(("I", "F")):
        raise DataError(f"{path}: {header.mode} pixels; convert the image to 8 bits a channel first")
    try:
        rgb = np.asarray(header.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path}: the image is damaged or cut short ({error})") from None
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn a stored image (H, W, 3) the way its EXIF orientation tells."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
