"""An image's signature: whether it can be read, its digest, perceptual hashes and keypoints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import LabelledImage
from data.decoding.pixels import NoteKind
from data.errors import DataError
from data.images import read_decoded

THUMBNAIL_PX = 64
"""Side of the square grey thumbnail by which near-duplicates are compared."""

_HASHED_PX = 32  # what imagehash's phash scales an image to
_KEYPOINTS = 1000
_EDGE_PX = 16  # ORB leaves 31 px out by default, half of a strip that two tiles share
_LEVELS = 4
_LARGEST_SIDE_PX = 1024  # keypoints are looked for in images of at most this size


@dataclass(frozen=True, eq=False)
class Keypoints:
    """ORB keypoints of an image.

    Attributes:
        xy: float32 (K, 2), pixels of the image as displayed.
        descriptors: uint8 (K, 32), 256 bits each.

    """

    xy: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSignature:
    """What identifies an image: its pixels exactly, roughly, and by keypoints.

    Attributes:
        fault: why it cannot be used, None where it can; then the rest is empty.
        size_differs: the fault is that its size is not the one its boxes were read with.
        digest: SHA-256 of its pixels, so that another header makes no other image.
        hashes: uint64 (8,), perceptual hashes of the image and of its flips and quarter turns.
        thumbnail: uint8 (64, 64), grey.
        orientation: EXIF orientation, 1 to 8.
        keypoints: None where they were not computed.
        notes: what of the file is left out or assumed: kind and words.

    """

    fault: str | None
    size_differs: bool
    digest: bytes
    hashes: NDArray[np.uint64]
    thumbnail: NDArray[np.uint8]
    orientation: int
    keypoints: Keypoints | None
    notes: tuple[tuple[NoteKind, str], ...] = ()


def image_signatures(
    images: Sequence[LabelledImage], *, keypoints: bool, progress: Callable[[int, int], None] | None = None
) -> list[ImageSignature]:
    """Decode every image and compute its signature, in threads; in the order of `images`.

    Args:
        images: the images; one that cannot be read gets a signature with a `fault`.
        keypoints: find keypoints too, which doubles the time.
        progress: called after each image with (done, total), from the calling thread.

    """
    import imagehash  # noqa: F401  (imported once here: threads that import together wait for each other)

    signatures: list[ImageSignature] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for signature in pool.map(lambda image: _signature(image, keypoints), images):
            signatures.append(signature)
            if progress:
                progress(len(signatures), len(images))
    return signatures


def flips_and_turns(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The 8 ways to lay a square image down; the first is the image itself."""
    turned = [np.rot90(image, quarter) for quarter in range(4)]
    return [np.ascontiguousarray(one) for one in (*turned, *(one[:, ::-1] for one in turned))]


def _signature(image: LabelledImage, keypoints: bool) -> ImageSignature:
    try:
        decoded = read_decoded(image.path)
    except DataError as error:
        return _faulty(str(error), size_differs=False)
    pixels, orientation = decoded.image, decoded.header.orientation
    if pixels.shape[:2] != image.size_hw:
        height, width = image.size_hw
        line = f"{image.path}: is {pixels.shape[1]} x {pixels.shape[0]}, its labels say {width} x {height}"
        return _faulty(line, size_differs=True)
    digest = hashlib.sha256(np.array(pixels.shape, "<i8").tobytes() + pixels.tobytes()).digest()
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
    thumbnail = np.asarray(cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA), np.uint8)
    found = find_keypoints(grey) if keypoints else None
    return ImageSignature(None, False, digest, _hashes(thumbnail), thumbnail, orientation, found, decoded.notes)


def _faulty(fault: str, *, size_differs: bool) -> ImageSignature:
    empty = np.zeros((THUMBNAIL_PX, THUMBNAIL_PX), np.uint8)
    return ImageSignature(fault, size_differs, b"", np.zeros(8, np.uint64), empty, 1, None)


def _hashes(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint64]:
    import imagehash
    from PIL import Image

    small = cv2.resize(thumbnail, (_HASHED_PX, _HASHED_PX), interpolation=cv2.INTER_AREA)
    bits = [imagehash.phash(Image.fromarray(one)).hash for one in flips_and_turns(np.asarray(small, np.uint8))]
    return np.packbits(np.array(bits).reshape(8, 64), axis=1).view(">u8").astype(np.uint64).ravel()


def find_keypoints(grey: NDArray[np.uint8]) -> Keypoints:
    """ORB keypoints (Rublee et al., ICCV 2011) of a grey image (H, W)."""
    scale = min(1.0, _LARGEST_SIDE_PX / max(grey.shape))
    if scale < 1:
        grey = np.asarray(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    points, descriptors = cv2.ORB.create(
        nfeatures=_KEYPOINTS, nlevels=_LEVELS, edgeThreshold=_EDGE_PX
    ).detectAndCompute(grey, None)
    if not len(points):  # then there are no descriptors either, not even an empty array
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8))
    xy = np.array([point.pt for point in points], np.float32) / np.float32(scale)
    return Keypoints(xy, np.asarray(descriptors, np.uint8))
