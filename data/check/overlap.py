"""Images that show a piece of the same scene: tiles of one photo, crops, turned and scaled (not mirrored) copies.

A hash of the whole image cannot relate two tiles that share a third. Their ORB keypoints do: where two
images overlap, many keypoints look alike, and one shift, turn and scale maps those of one onto the other's.
Comparing every image with every other would take hours, so pairs to compare come from an index first: 32 bits of
a descriptor are a word, and images that share several rare words are compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from data.check.signature import Keypoints

_MOST_OF_A_WORD = 16  # a word in more keypoints than this does not identify a place
_SHARED_WORDS = 6
_MOST_PAIRS = 40  # of one image
_LARGEST_DISTANCE_BITS = 40  # of 256, between descriptors of the same place
_REPROJECTION_PX = 3.0
_FEWEST_INLIERS = 8
_FEWEST_INLIERS_SHARE = 0.3
_SCALES = (0.3, 3.4)


@dataclass(frozen=True)
class Overlap:
    """Two images that share a piece of the scene.

    Attributes:
        first: index of the one.
        second: index of the other.
        inliers: keypoints that one shift, turn and scale maps from one to the other.
        shift_px: where the first one's origin lies in the second, x and y.
        scale: size of the second relative to the first.
        turn_deg: how far the first is turned to lie on the second, -180 to 180, clockwise as seen.

    """

    first: int
    second: int
    inliers: int
    shift_px: tuple[float, float]
    scale: float
    turn_deg: float

    def described(self) -> str:
        """Inliers, and the turn, scale or shift, such as "41 places agree, shifted by 120, 0 px"."""
        how = [f"{self.inliers} places agree"]
        if abs(self.turn_deg) > 2:
            how.append(f"turned by {self.turn_deg:.0f} degrees")
        if abs(self.scale - 1) > 0.05:
            how.append(f"scaled by {self.scale:.2f}")
        if len(how) == 1:
            x, y = map(round, self.shift_px)
            how.append(f"shifted by {x}, {y} px")
        return ", ".join(how)


def overlapping(
    keypoints: Sequence[Keypoints],
    sides: NDArray[np.int64] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Overlap]:
    """Pairs of images that overlap.

    Args:
        keypoints: of each image.
        sides: int64 (N,); only images of different sides are compared. None compares all.
        progress: called with (done, total) pairs.

    """
    pairs = pairs_to_compare(keypoints, sides)
    found = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        compared = pool.map(
            lambda pair: _overlap(pair[0], pair[1], keypoints[pair[0]], keypoints[pair[1]]), pairs.tolist()
        )
        for done, overlap in enumerate(compared, start=1):
            if overlap:
                found.append(overlap)
            if progress:
                progress(done, len(pairs))
    return found


def pairs_to_compare(keypoints: Sequence[Keypoints], sides: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Pairs (P, 2), first < second, that share several rare 32-bit words of their descriptors.

    The idea of multi-index hashing (Norouzi, Punjani, Fleet, CVPR 2012): descriptors that differ in few of 256
    bits are likely to agree in one of eight words.
    """
    count = len(keypoints)
    if not count:
        return np.zeros((0, 2), np.int64)
    image = np.repeat(np.arange(count), [len(k.descriptors) for k in keypoints])
    words = np.ascontiguousarray(np.concatenate([k.descriptors for k in keypoints])).view(np.uint32)
    shared: list[NDArray[np.int64]] = []
    for column in range(words.shape[1]):
        order = np.argsort(words[:, column], kind="stable")
        word, owner = words[order, column], image[order]
        starts = np.flatnonzero(np.r_[True, word[1:] != word[:-1]])
        lengths = np.diff(np.r_[starts, len(word)])
        rare = np.repeat(lengths <= _MOST_OF_A_WORD, lengths)
        word, owner = word[rare], owner[rare]
        for step in range(1, _MOST_OF_A_WORD):
            same = (word[step:] == word[:-step]) & (owner[step:] != owner[:-step])
            if sides is not None:
                same &= sides[owner[step:]] != sides[owner[:-step]]
            one, other = owner[:-step][same], owner[step:][same]
            shared.append(np.minimum(one, other) * count + np.maximum(one, other))
    keys, counts = np.unique(np.concatenate(shared), return_counts=True)
    keys, counts = keys[counts >= _SHARED_WORDS], counts[counts >= _SHARED_WORDS]
    pairs = np.stack([keys // count, keys % count], axis=1)
    # The best of each image, so that a set full of look-alikes stays affordable.
    best = np.argsort(-counts, kind="stable")
    taken = np.zeros(count, np.int64)
    kept = []
    for index in best:
        first, second = pairs[index]
        if min(taken[first], taken[second]) < _MOST_PAIRS:
            taken[[first, second]] += 1
            kept.append(index)
    return pairs[np.sort(np.array(kept, np.int64))]


def _overlap(first: int, second: int, one: Keypoints, other: Keypoints) -> Overlap | None:
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.descriptors, other.descriptors)
    near = [m for m in matches if m.distance <= _LARGEST_DISTANCE_BITS]
    if len(near) < _FEWEST_INLIERS:
        return None
    source = one.xy[[m.queryIdx for m in near]]
    target = other.xy[[m.trainIdx for m in near]]
    moved, inside = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION_PX, maxIters=500
    )
    if np.shape(moved) != (2, 3):  # None: no transform fits
        return None
    inliers = int(inside.sum())
    # Keypoints at one spot, found at several scales, count once.
    spots = np.unique(np.round(source[inside.ravel() > 0] / 4), axis=0)
    scale = float(np.hypot(moved[0, 0], moved[1, 0]))
    turn_deg = float(np.degrees(np.arctan2(moved[1, 0], moved[0, 0])))
    enough = len(spots) >= _FEWEST_INLIERS and inliers >= _FEWEST_INLIERS_SHARE * len(near)
    if not enough or not _SCALES[0] <= scale <= _SCALES[1]:
        return None
    return Overlap(first, second, inliers, (float(moved[0, 2]), float(moved[1, 2])), scale, turn_deg)
