"""Image files read upright: their pixels, size or EXIF orientation, or a `DataError`."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.decoding.header import MAP, MASK, PHOTO, Header, Limits, read_header
from data.decoding.pixels import Decoded, decode_file, open_image
from data.decoding.refusal import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from data.decoding.refusal import ImageRefused
from data.errors import DataError

_MASK_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_GENTLE = 0.6
_PILLOW = threading.Lock()
_limits: ContextVar[Limits] = ContextVar("_limits", default=PHOTO)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image the way a viewer shows it, EXIF orientation applied.

    Args:
        path: JPEG, PNG, BMP, TIFF or WebP. Of 16 bits a channel the upper 8 are taken, grey images get three equal
            channels, transparency is dropped: `docs/reference/images.md` has all of the rule.

    Returns:
        uint8 (H, W, 3), BGR.

    Raises:
        DataError: the file is missing, empty, cut short, or not an image that can be decoded.

    """
    return _decoded(path).image


def read_decoded(path: Path) -> Decoded:
    """An image with its header, and with what of it is left out or assumed; else as `read_image`."""
    return _decoded(path)


@contextmanager
def maps_allowed() -> Iterator[None]:
    """Inside this, in this thread, images may be as large as OpenCV decodes: for what cuts them into tiles."""
    token = _limits.set(MAP)
    try:
        yield
    finally:
        _limits.reset(token)


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


def read_mask(path: Path) -> NDArray[np.integer[Any]]:
    """The numbers in a PNG of one channel, palette indices included, as stored: whole numbers (H, W).

    Raises:
        DataError: the file is missing, damaged, no PNG, or has several channels.

    """
    limits = MASK if _limits.get() is PHOTO else _limits.get()
    try:
        with open_image(path) as file:
            header = read_header(file, limits)
            file.seek(0)
            with _pillow_quiet():
                opened = Image.open(file, formats=("PNG",)) if header.kind == "PNG" else None
            if opened is None or opened.mode not in _MASK_MODES:
                kind = header.kind if opened is None else f"PNG of {opened.mode} pixels"
                raise DataError(f"{path}: a mask is a PNG with one channel of instance numbers, this is {kind}")
            numbers = np.asarray(opened)
            return numbers.astype(np.uint8) if numbers.dtype == np.bool_ else numbers
    except ImageRefused as error:
        raise DataError(f"{path}: {error}") from None
    except FileNotFoundError as error:
        raise _unreadable(path, error) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise DataError(f"{path}: the mask is damaged or cut short ({error})") from None


def image_size_hw(path: Path) -> tuple[int, int]:
    """Height and width of an image as displayed (EXIF orientation applied), read from its header.

    Raises:
        DataError: the file is missing, empty or not an image.

    """
    return _header(path).displayed_hw


def image_header(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width of an image as stored, and its EXIF orientation, 1 (upright) to 8.

    Raises:
        DataError: the file is missing, empty or not an image.

    """
    header = _header(path)
    return header.stored_hw, header.orientation


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
    choose = None if wanted_hw is None else lambda header: _decoded_part(header.displayed_hw, wanted_hw)
    decoded = _decoded(path, choose)
    return decoded.image, decoded.header.displayed_hw


def _decoded(path: Path, choose: Callable[[Header], int] | None = None) -> Decoded:
    try:
        return decode_file(path, _limits.get(), choose)
    except ImageRefused as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except MemoryError:
        raise DataError(f"{path}: there is not enough memory to decode it: {_limits.get().too_large}") from None


def _decoded_part(size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> int:
    """1/n of the size at which to decode a JPEG: a half where that is enough, less where it is twice enough.

    libjpeg's quarters and eighths lose fine texture that averaging keeps, so some of that is left to do.
    """
    for n, enough in ((8, 2), (4, 2), (2, 1)):
        if all(-(-side // n) >= enough * wanted for side, wanted in zip(size_hw, wanted_hw, strict=True)):
            return n
    return 1


def _header(path: Path) -> Header:
    try:
        with open_image(path) as file:
            return read_header(file, _limits.get())
    except ImageRefused as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise _unreadable(path, error) from None


@contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Without Pillow's limit of large images, which is ours to check, and its warnings of damaged tags."""
    # Both belong to the whole process: one thread at a time.
    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def _unreadable(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such image file")
    return DataError(f"{path}: cannot be read ({error.strerror or error})")
