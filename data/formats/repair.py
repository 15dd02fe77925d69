"""How every reader repairs boxes and reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError, one_line
from data.formats.units import Units

MIN_SIDE_PX = 1.0
"""A box thinner than this, after clipping, is dropped: it holds no whole pixel."""

Unlabelled = Literal["background", "skip"]
"""What an image without labels of its own is: background, or not labelled yet and so left out."""

_ROUNDING_PX = 0.01  # what six decimals of a YOLO label lose on a large photo; not worth a notice
SIDE_ROUNDING_PX = 1e-3
"""A box may be thinner by this: one of just MIN_SIDE_PX must survive being written, moved and read again."""


_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Noted:
    """One thing that a reader noticed, for `swath data check`.

    Attributes:
        kind: its code, such as "box-outside".
        line: what, where and what to do.
        where: the file it was noticed in.
        box_xyxy: the box as given, absolute pixels, where it was a box.
        count: how many there were.

    """

    kind: str
    line: str
    where: str
    box_xyxy: tuple[float, float, float, float] | None = None
    count: int = 1


_collected: ContextVar[list[Noted] | None] = ContextVar("_collected", default=None)


@contextmanager
def every_fault() -> Iterator[list[Noted]]:
    """Inside this, readers go on without what is faulty, instead of raising at the first fault.

    Gives the list to which every fault and every repair is added. What a reader cannot do without, such as
    readable JSON, still raises `DataError`.
    """
    noted: list[Noted] = []
    token = _collected.set(noted)
    try:
        yield noted
    finally:
        _collected.reset(token)


@dataclass
class Notices:
    """What a reader noticed: a count and the first place for each kind, in the order of appearance.

    Attributes:
        every: None, and the first fault ends the reading as a `DataError`; or the list of `every_fault`.
        units: whether the repairs hit so many boxes that another unit or order is the likelier cause.

    """

    every: list[Noted] | None = field(default_factory=_collected.get)
    units: Units = field(default_factory=Units)
    _counts: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add a notice that is not counted."""
        self._lines.append(line)
        self.note("notice", line, "")

    def count(self, one: str, many: str, rest: str, where: str, n: int = 1, *, kind: str | None = "notice") -> None:
        """Add `n` to the notice "1 {one} {rest}" or "{n} {many} {rest}"; `where` is kept from the first.

        `swath data check` lists them under `kind`; None where each is noted by itself.
        """
        if n:
            key = (one, many, rest)
            self._counts[key] = self._counts.get(key, 0) + n
            self._first.setdefault(key, where)
            if kind and self.every is not None:
                self.every.append(Noted(kind, f"{many} {rest}", where, count=n))

    def note(self, kind: str, line: str, where: str, boxes_xyxy: NDArray[np.float64] | None = None) -> None:
        """Add one of `kind` to `every`, or one for each of the boxes (N, 4)."""
        if self.every is None:
            return
        boxes = [None] if boxes_xyxy is None else [(a, b, c, d) for a, b, c, d in boxes_xyxy.tolist()]
        self.every += [Noted(kind, line, where, box) for box in boxes]

    def fault(self, error: DataError, where: str, kind: str = "label-malformed") -> None:
        """Raise `error`; or note it, under its own kind or else `kind`, where every fault is wanted."""
        if self.every is None:
            raise error
        self.note(error.kind or kind, str(error), where)

    def each(
        self, items: Iterable[_Item], make: Callable[[_Item], _Made], where: str, kind: str = "label-malformed"
    ) -> list[tuple[_Item, _Made]]:
        """Each item with what `make` makes of it; those on which it raises `DataError` are faults."""
        made = []
        for item in items:
            try:
                made.append((item, make(item)))
            except DataError as error:
                self.fault(error, where, kind)
        return made

    def lines(self) -> tuple[str, ...]:
        """One line for each kind, after the lines of `add`; called when everything has been read.

        Raises:
            DataError: the boxes are of another unit or order than the format's.

        """
        for line, where in self.units.faults():
            self.fault(DataError(f"{where}: {line}", kind="box-unit"), where)
        counted = []
        for (one, many, rest), n in self._counts.items():
            where = self._first[one, many, rest]
            counted.append(f"1 {one} {rest} ({where})" if n == 1 else f"{n} {many} {rest} (first: {where})")
        return tuple(map(one_line, (*self._lines, *counted)))


def count_unlabelled(files: Sequence[Path], wanting: str, unlabelled: Unlabelled, notices: Notices) -> None:
    """Count the images (`files`) that lack their `wanting`, such as "label file", and how they are treated."""
    done = "taken as background" if unlabelled == "background" else "left out (unlabelled: skip)"
    if files:
        notices.count("image", "images", f"without a {wanting}: {done}", files[0].name, len(files))


def box_areas(boxes_xyxy: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Areas float64 (N,) of boxes (N, 4), in square pixels."""
    boxes_xyxy = np.asarray(boxes_xyxy, np.float64)
    areas: NDArray[np.float64] = (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
    return areas


def repair_boxes(
    boxes_xyxy: NDArray[np.float64],
    size_hw: tuple[int, int],
    notices: Notices,
    where: str,
    file: Path | None = None,
    *,
    min_side_px: float = MIN_SIDE_PX,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Clip boxes to their image, drop those that are then thinner than `min_side_px`, count both.

    Args:
        boxes_xyxy: (N, 4), absolute pixels of the image as displayed, continuous corners.
        size_hw: height and width of the image as displayed.
        notices: where the counts go.
        where: the image's name, for messages.
        file: the image, where that is not its name.
        min_side_px: smallest side that is kept, in pixels.

    Returns:
        The kept boxes, float64 (M, 4), which `LabelledImage` takes, and which of the N were kept, bool (N,).

    Raises:
        DataError: a coordinate is not finite, a width or height is negative, or a box lies wholly
            outside the image.

    """
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    image = str(file or where)
    infinite = np.asarray(~np.isfinite(boxes).all(axis=1))
    if infinite.any():
        line = f"{where}: a box is not finite (NaN or infinite): correct or remove it"
        _refuse(boxes[infinite], DataError(line, kind="box-not-finite"), image, notices)
    swapped = ~infinite & (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if swapped.any():
        line = f"{where}: a box has a negative width or height: correct or remove it"
        _refuse(boxes[swapped], DataError(line, kind="box-swapped"), image, notices)
    faulty = infinite | swapped
    boxes = np.where(faulty[:, None], 0.0, boxes)  # reached only where every fault is wanted
    height, width = size_hw
    notices.units.saw(boxes[~infinite], swapped[~infinite], size_hw, image)
    frame = np.array([width, height, width, height], np.float64)
    clipped = np.clip(boxes, 0.0, frame)
    keep: NDArray[np.bool_] = np.all(clipped[:, 2:] - clipped[:, :2] >= min_side_px - SIDE_ROUNDING_PX, axis=1)
    outside = ((boxes[:, 2:] <= 0.0) | (boxes[:, :2] >= frame[:2])).any(axis=1)
    misplaced = outside & (boxes[:, 2:] - boxes[:, :2] >= min_side_px).all(axis=1)
    if misplaced.any():
        # No slip of a drawing tool: the labels belong to another image, size or coordinate system.
        corners = ", ".join(f"{v:g}" for v in boxes[misplaced][0])
        line = f"{where}: a box ({corners}) lies wholly outside the image of {width} x {height}: correct or remove it"
        line += "; where many do, x and y are in another order, or the labels of another image size"
        _refuse(boxes[misplaced], DataError(line, kind="box-outside"), image, notices)
    beyond_px = np.abs(clipped - boxes).max(axis=1, initial=0.0)
    clips = keep & (beyond_px > _ROUNDING_PX)
    thin = ~keep & ~faulty & ~misplaced
    rest = f"thinner than {min_side_px:g} px inside the image: dropped"
    notices.count("box", "boxes", rest, where, int(thin.sum()), kind=None)
    notices.note("box-thin", rest, image, boxes[thin])
    rest = "reaching outside the image: clipped to it"
    notices.count("box", "boxes", rest, where, int(clips.sum()), kind=None)
    notices.note("box-clipped", rest, image, boxes[clips])
    kept = clipped[keep]
    _, firsts = np.unique(kept.astype(np.float32), axis=0, return_index=True)
    again = np.setdiff1d(np.arange(len(kept)), firsts)
    rest = "exactly on top of another: kept"
    notices.count("box", "boxes", rest, where, len(again), kind=None)
    notices.note("box-duplicate", rest, image, kept[again])
    return kept, keep


def _refuse(boxes_xyxy: NDArray[np.float64], error: DataError, image: str, notices: Notices) -> None:
    if notices.every is None:
        raise error
    notices.note(error.kind or "label-malformed", str(error), image, boxes_xyxy)
