"""Outlines of COCO and Label Studio -> boxes: polygons, and masks as run lengths (RLE).

Run lengths are decoded here and not by pycocotools, whose C code trusts its input: a height of 0 ends the
process, and counts beyond the image read memory that is not theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_Box = tuple[float, float, float, float]


def segmentation_box(segmentation: Any, size_hw: tuple[int, int] | None) -> _Box:
    """The bounds of an outline, x1, y1, x2, y2 in absolute pixels, continuous corners.

    A polygon's bounds are those of its corners; a mask's those of its pixels, the last one included whole, as
    in pycocotools' `toBbox`. A mask without a pixel gives a box of no size.

    Args:
        segmentation: a list of polygons [x1, y1, x2, y2, ...], or an RLE: {"size": [h, w], "counts": list or string}.
        size_hw: the image's height and width that an RLE must have; None takes the RLE's own.

    Raises:
        ValueError: not such an outline; the message says why.

    """
    if isinstance(segmentation, Mapping):
        return _rle_box(segmentation, size_hw)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("it must be polygons or an RLE")
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    values: list[float] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 4 or len(polygon) % 2:
            raise ValueError("a polygon needs pairs of x and y")
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in polygon):
            raise ValueError("a polygon holds something that is no number")
        values += polygon
    try:
        finite = all(map(math.isfinite, values))
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("a polygon holds a value that is not finite")
    return min(values[0::2]), min(values[1::2]), max(values[0::2]), max(values[1::2])


def _rle_box(rle: Mapping[str, Any], size_hw: tuple[int, int] | None) -> _Box:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or len(size) != 2 or any(not isinstance(v, int) or v < 1 for v in size):
        raise ValueError("an RLE needs its size [height, width]")
    height, width = size
    if size_hw is not None and (height, width) != tuple(size_hw):
        raise ValueError(f"the RLE is {width} x {height}, its image {size_hw[1]} x {size_hw[0]}")
    lengths = rle_counts(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, Sequence) or any(isinstance(v, bool) or not isinstance(v, int) for v in lengths):
        raise ValueError("the RLE's counts must be whole numbers or a string")
    if any(v < 0 for v in lengths) or sum(lengths) != height * width or height * width > 1 << 40:
        raise ValueError(f"the RLE's counts do not add up to its {width} x {height} pixels")
    ends = np.cumsum(np.array(lengths, np.int64))
    starts, stops = ends[:-1:2], ends[1::2]  # runs alternate, off first; pixels are numbered down the columns
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    last = stops - 1
    several = starts // height != last // height  # a run over a column's end touches top and bottom
    top = np.where(several, 0, starts % height).min()
    bottom = np.where(several, height - 1, last % height).max()
    return float(starts[0] // height), float(top), float(last[-1] // height + 1), float(bottom + 1)


def rle_counts(text: str) -> list[int]:
    """Run lengths of a compressed RLE.

    COCO's own code: numbers in groups of 5 bits, lowest first, each a character from "0" on; bit 6 means that
    more follow, the sign is in bit 5 of the last; from the fourth on they are differences to the last but one.

    Raises:
        ValueError: a character or an end that the code does not have.

    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("the RLE's string is damaged")
        value |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            if group & 0x10:
                value -= 1 << shift
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the RLE's string is cut short")
    return lengths
