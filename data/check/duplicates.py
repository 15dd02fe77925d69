"""Images that show the same: exactly, or after recompression, resizing, flips, turns and small shifts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from data.check.signature import THUMBNAIL_PX, ImageSignature, flips_and_turns

NEAR_BITS = 16
"""Perceptual hashes (64 bits) that differ in at most so many are compared closely."""

NEAR_CORRELATION = 0.85
"""From this correlation of their thumbnails on, two images show the same."""

_SHIFT_PX = 5  # of the thumbnail's 64: shifts of up to 8 % are seen through
_FLATTEST = 4.0  # grey levels (standard deviation); below, there is nothing to compare
_ROWS = 512


def exact_duplicates(signatures: Sequence[ImageSignature]) -> list[list[int]]:
    """Indices of images whose pixels are equal, in groups of two and more."""
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, signature in enumerate(signatures):
        if signature.fault is None:
            same[signature.digest].append(index)
    return [group for group in same.values() if len(group) > 1]


def near_duplicates(signatures: Sequence[ImageSignature]) -> list[tuple[int, int]]:
    """Pairs of images that show the same but are not equal, first < second.

    Compared are pairs whose perceptual hashes (phash of the `imagehash` package, of one of them in all flips
    and quarter turns) are near; what counts is the best normalised cross-correlation of their thumbnails over
    small shifts, which brightness and contrast leave as it is.
    """
    return [
        pair
        for pair in _near_hashes(signatures)
        if correlation(signatures[pair[0]], signatures[pair[1]]) >= NEAR_CORRELATION
    ]


def alike(signatures: Sequence[ImageSignature]) -> list[tuple[int, int]]:
    """Pairs of images that are equal or show the same: what belongs on one side of a split."""
    equal = [(group[0], other) for group in exact_duplicates(signatures) for other in group[1:]]
    return equal + near_duplicates(signatures)


def correlation(one: ImageSignature, other: ImageSignature) -> float:
    """Best normalised cross-correlation, -1 to 1, over flips, turns and small shifts; -1 for flat images."""
    if one.thumbnail.std() < _FLATTEST or other.thumbnail.std() < _FLATTEST:
        return -1.0
    core = one.thumbnail[_SHIFT_PX : THUMBNAIL_PX - _SHIFT_PX, _SHIFT_PX : THUMBNAIL_PX - _SHIFT_PX]
    bits = np.bitwise_count(one.hashes[0] ^ other.hashes)
    laid = flips_and_turns(other.thumbnail)
    near = [image for image, differ in zip(laid, bits, strict=True) if differ <= NEAR_BITS]
    return max((float(cv2.matchTemplate(image, core, cv2.TM_CCOEFF_NORMED).max()) for image in near), default=-1.0)


def _near_hashes(signatures: Sequence[ImageSignature]) -> list[tuple[int, int]]:
    whole = np.array([index for index, signature in enumerate(signatures) if signature.fault is None], np.int64)
    if len(whole) < 2:
        return []
    hashes: NDArray[np.uint64] = np.stack([signatures[index].hashes for index in whole])
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(whole), _ROWS):
        rows = hashes[start : start + _ROWS, 0]
        differ = np.full((len(rows), len(whole) - start), 64, np.uint8)
        for way in range(hashes.shape[1]):
            np.minimum(differ, np.bitwise_count(rows[:, None] ^ hashes[None, start:, way]), out=differ)
        one, other = np.nonzero(np.triu(differ <= NEAR_BITS, k=1))
        pairs += [(int(whole[start + a]), int(whole[start + b])) for a, b in zip(one, other, strict=True)]
    digests = [signature.digest for signature in signatures]
    return [(a, b) for a, b in pairs if digests[a] != digests[b]]
