"""The one rule by which every reader repairs boxes, and says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError, one_line

MIN_SIDE_PX = 1.0
"""A box thinner than this, after clipping, is dropped: it holds no whole pixel."""

Unlabelled = Literal["background", "skip"]
"""What a picture without labels of its own is: background, or not labelled yet and so left out."""

_ROUNDING_PX = 0.01  # what six decimals of a YOLO label lose on a large photo; not worth a word
_SIDE_ROUNDING_PX = 1e-3  # so that a box of just MIN_SIDE_PX survives being written and read again


@dataclass
class Notices:
    """What a reader noticed: a count and the first place for each kind, in the order of appearance."""

    _counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _said: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Add a notice that is not counted."""
        self._said.append(line)

    def count(self, one: str, many: str, rest: str, where: str, n: int = 1) -> None:
        """Add `n` to the notice "1 {one} {rest}" or "{n} {many} {rest}"; `where` is kept from the first."""
        if n:
            kind = (one, many, rest)
            self._counts[kind] = self._counts.get(kind, 0) + n
            self._first.setdefault(kind, where)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind, what was said first."""
        counted = []
        for (one, many, rest), n in self._counts.items():
            where = self._first[one, many, rest]
            counted.append(f"1 {one} {rest} ({where})" if n == 1 else f"{n} {many} {rest} (first: {where})")
        return tuple(map(one_line, (*self._said, *counted)))


def count_unlabelled(files: Sequence[Path], wanting: str, unlabelled: Unlabelled, notices: Notices) -> None:
    """Say how many pictures (`files`) lack their `wanting`, such as "label file", and what became of them."""
    done = "taken as background" if unlabelled == "background" else "left out (unlabelled: skip)"
    if files:
        notices.count("picture", "pictures", f"without a {wanting}: {done}", files[0].name, len(files))


def repair_boxes(
    boxes_xyxy: NDArray[np.float64],
    size_hw: tuple[int, int],
    notices: Notices,
    where: str,
    *,
    min_side_px: float = MIN_SIDE_PX,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clip boxes to their picture, drop those that are then thinner than `min_side_px`, count both.

    Args:
        boxes_xyxy: (N, 4), absolute pixels of the picture as displayed, continuous corners.
        size_hw: height and width of the picture as displayed.
        notices: where the counts go.
        where: the picture's name, for messages.
        min_side_px: smallest side that is kept, in pixels.

    Returns:
        The kept boxes, float32 (M, 4), and which of the N were kept, bool (N,).

    Raises:
        DataError: a coordinate is not finite, a width or height is negative, or a box lies wholly
            outside the picture.

    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise DataError(f"{where}: a box is not finite (NaN or infinite): correct or remove it")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise DataError(f"{where}: a box has a negative width or height: correct or remove it")
    height, width = size_hw
    frame = np.array([width, height, width, height], np.float64)
    clipped = np.clip(boxes, 0.0, frame)
    keep: NDArray[np.bool_] = np.all(clipped[:, 2:] - clipped[:, :2] >= min_side_px - _SIDE_ROUNDING_PX, axis=1)
    outside = ((boxes[:, 2:] <= 0.0) | (boxes[:, :2] >= frame[:2])).any(axis=1)
    misplaced = outside & (boxes[:, 2:] - boxes[:, :2] >= min_side_px).all(axis=1)
    if misplaced.any():
        # No slip of a drawing tool: the labels belong to another picture, size or coordinate system.
        corners = ", ".join(f"{v:g}" for v in boxes[misplaced][0])
        raise DataError(
            f"{where}: a box ({corners}) lies wholly outside the picture of {width} x {height}: correct or remove it"
        )
    beyond_px = np.abs(clipped - boxes).max(axis=1, initial=0.0)
    clips = keep & (beyond_px > _ROUNDING_PX)
    thin = int((~keep).sum())
    notices.count("box", "boxes", f"thinner than {min_side_px:g} px inside the picture: dropped", where, thin)
    notices.count("box", "boxes", "reaching outside the picture: clipped to it", where, int(clips.sum()))
    kept = clipped[keep].astype(np.float32)
    duplicates = len(kept) - len(np.unique(kept, axis=0)) if len(kept) > 1 else 0
    notices.count("box", "boxes", "exactly on top of another: kept", where, duplicates)
    return kept, keep
