"""Large photos as tiles, so that a plant of 30 pixels on 20 megapixels is learned from all of its pixels.

Tiles are windows that overlap (F. C. Akyon et al., "Slicing Aided Hyper Inference", ICIP 2022, slices training
photos in the same way). Training cuts them as it goes, without a copy of the images on the disk; `write_tiles`
writes them for other tools. `Window.to_photo` maps boxes found in a tile back to the photo.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.formats.repair import MIN_SIDE_PX, SIDE_ROUNDING_PX
from data.window import Window

LEAST_SIDE_PX = 32
"""The smallest tile: less of a photo shows no plant."""

_WHOLE = 1 - 1e-6  # float32 boxes at an edge lose a hair by clipping


class TileSettings(BaseModel):
    """How photos are cut into tiles: the recipe's `data.tiles`, and the flags of `swath data tile`.

    Example:
        >>> tiles, counts = tile_dataset(photos, TileSettings(size_px=640, overlap=0.25))

    Raises:
        ValueError: an unknown key, or a value out of its range.

    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size_px: int = Field(640, ge=LEAST_SIDE_PX, description="side of a tile in pixels")
    # more overlap would show every spot of the photo more than 16 times
    overlap: float = Field(0.25, ge=0, le=0.75, description="share of a tile's side that its neighbour shows too")
    min_visible: float = Field(
        0.4, ge=0, le=1, description="boxes with less of their area in a tile are dropped from it"
    )
    tile_m: float | None = Field(
        None, gt=0, description="side of a tile on the ground in metres, resized to size_px; null: no resizing"
    )
    gsd_mm: float | None = Field(
        None, gt=0, description="with tile_m: ground a pixel covers, millimetres; null: each image's attribute"
    )


@dataclass
class TileCounts:
    """What happened to the boxes when photos were cut into tiles.

    Attributes:
        min_visible: boxes with less of their area in a tile were dropped from it.
        photos: photos cut.
        tiles: tiles made of them.
        empty: tiles without a box.
        boxes: boxes in the photos.
        whole: boxes in tiles, uncut; a box in the overlap counts once for each tile.
        cut: boxes in tiles, cut by an edge and kept.
        dropped: parts of boxes in tiles of which less than `min_visible` is visible.
        thin: parts of boxes in tiles that hold no whole pixel.
        lost: boxes of which no tile keeps anything.

    """

    min_visible: float
    photos: int = 0
    tiles: int = 0
    empty: int = 0
    boxes: int = 0
    whole: int = 0
    cut: int = 0
    dropped: int = 0
    thin: int = 0
    lost: int = 0

    def lines(self) -> tuple[str, ...]:
        """The counts as sentences, one line each; those of zero are left out."""
        said = [
            f"{self.photos} photos in {self.tiles} tiles, {self.empty} of them without a box",
            f"{self.boxes} boxes in the photos; in the tiles {self.whole} whole and {self.cut} cut by an edge",
        ]
        if self.dropped:
            share = f"of which less than {self.min_visible:g} is visible in the tile"
            said.append(f"{self.dropped} parts of boxes {share}: dropped there")
        if self.thin:
            said.append(f"{self.thin} parts of boxes thinner than {MIN_SIDE_PX:g} px in the tile: dropped there")
        if self.lost:
            said.append(f"{self.lost} boxes in no tile at all: take larger tiles, more overlap or less min_visible")
        return tuple(said)


def tile_corners(photo_hw: tuple[int, int], side_px: int, overlap_px: int) -> list[tuple[int, int, int, int]]:
    """The tiles of a photo, row by row: left, top, right, bottom in whole pixels of the photo.

    Neighbours overlap by `overlap_px`; the last of a row or column is aligned to the photo's edge and overlaps
    more. Together they cover the photo, none reaches outside, and a box with both sides up to `overlap_px` lies
    whole in at least one. Along a side shorter than `side_px` there is one tile, as long as that side.

    Raises:
        ValueError: not 0 <= overlap_px < side_px.

    """
    if not 0 <= overlap_px < side_px:
        raise ValueError(f"overlap must be 0 to {side_px - 1} px, got {overlap_px}")
    (height, width), step = photo_hw, side_px - overlap_px

    def starts(length: int) -> list[int]:
        last = max(0, length - side_px)
        return [*range(0, last, step), last]

    return [
        (left, top, min(left + side_px, width), min(top + side_px, height))
        for top in starts(height)
        for left in starts(width)
    ]


def tile_windows(photo_hw: tuple[int, int], settings: TileSettings, gsd_mm: float | None = None) -> list[Window]:
    """The tiles of a photo as windows.

    Args:
        photo_hw: height and width of the photo.
        settings: size and overlap of the tiles. With `tile_m` they are resized to `size_px`, so that photos from
            all heights show plants at one size; without, tiles are `size_px` of the photo's own pixels.
        gsd_mm: ground that one pixel of this photo covers, in millimetres, for `tile_m`; None: `settings.gsd_mm`.

    Raises:
        DataError: `tile_m` without `gsd_mm`, or a tile would be less than `LEAST_SIDE_PX` of the photo.

    """
    side_px = settings.size_px
    if settings.tile_m is not None:
        gsd_mm = settings.gsd_mm if gsd_mm is None else gsd_mm
        if gsd_mm is None or not gsd_mm > 0:
            raise DataError(
                f"tiles of {settings.tile_m:g} m: give the millimetres of ground that a pixel covers (gsd_mm)"
            )
        # a tile larger than the photo is cut to it below; the bound keeps whole numbers whole
        side_px = round(min(settings.tile_m * 1000 / gsd_mm, 1e6))
        if side_px < LEAST_SIDE_PX:
            raise DataError(
                f"tiles of {settings.tile_m:g} m have {side_px} px at {gsd_mm:g} mm a pixel: take larger ones"
            )
    scale = settings.size_px / side_px
    return [
        Window(photo_hw, (x1, y1, x2, y2), (max(1, round((y2 - y1) * scale)), max(1, round((x2 - x1) * scale))))
        for x1, y1, x2, y2 in tile_corners(photo_hw, side_px, round(side_px * settings.overlap))
    ]


def tile_dataset(dataset: Dataset, settings: TileSettings) -> tuple[Dataset, TileCounts]:
    """Every photo as its tiles, numbered from 1. No pixel is read or written: a tile is a window of its file.

    A box cut by a tile's edge is clipped to it and marked truncated; where less than `min_visible` of its area
    remains it is dropped from that tile. The area of a clipped box's mask shrinks as its box does. Attributes
    carry over; `photo` (the photo's name, unless there is such an attribute already) keeps tiles of one photo
    together in a split, and `window_xyxy` is the tile's place in the photo.

    Args:
        dataset: whole photos, or tiles on the disk; not windows.
        settings: of the tiles. Boxes with sides up to `overlap` of a tile lie whole in at least one.

    Returns:
        The tiles, with what happened to the boxes in their `notices`, and the same as counts.

    Raises:
        DataError: a photo has no valid `gsd_mm` where `tile_m` needs it, or is a window itself.

    """
    counts = TileCounts(settings.min_visible)
    names = _photo_names(dataset.images)
    tiles: list[LabelledImage] = []
    for image, name in zip(dataset.images, names, strict=True):
        if image.window is not None:
            raise DataError(f"{image.path}: is a tile already: give the photos themselves")
        of_each = settings.tile_m is not None and settings.gsd_mm is None
        ground_mm = _own_gsd_mm(image) if of_each else settings.gsd_mm
        windows = tile_windows(image.size_hw, settings, ground_mm)
        kept_somewhere = np.zeros(len(image.boxes_xyxy), np.bool_)
        for window in windows:
            tile, kept = _tile(image, window, counts)
            attributes = {"photo": name, **image.attributes, "window_xyxy": _corners(window.corners_xyxy)}
            if ground_mm is not None:
                attributes["gsd_mm"] = f"{ground_mm / window.scale_xyxy[0]:g}"
            tiles.append(replace(tile, image_id=len(tiles) + 1, attributes=attributes))
            kept_somewhere[kept] = True
            counts.empty += not len(kept)
        counts.photos += 1
        counts.tiles += len(windows)
        counts.boxes += len(kept_somewhere)
        counts.lost += int((~kept_somewhere).sum())
    notices = (*dataset.notices, *counts.lines())
    return replace(dataset, images=tuple(tiles), notices=notices), counts


def _tile(image: LabelledImage, window: Window, counts: TileCounts) -> tuple[LabelledImage, NDArray[np.intp]]:
    """One tile, and which of the photo's boxes it keeps."""
    height, width = window.size_hw
    moved = window.to_window(image.boxes_xyxy)
    clipped = np.clip(moved, 0.0, np.array([width, height, width, height], np.float64))
    sides = clipped[:, 2:] - clipped[:, :2]
    share = np.prod(sides, axis=1) / np.prod(moved[:, 2:] - moved[:, :2], axis=1)
    inside = (sides > 0).all(axis=1)
    thick = (sides >= MIN_SIDE_PX - SIDE_ROUNDING_PX).all(axis=1)
    whole, visible = share >= _WHOLE, share >= counts.min_visible
    keep = inside & visible & thick
    counts.whole += int((keep & whole).sum())
    counts.cut += int((keep & ~whole).sum())
    counts.dropped += int((inside & ~visible).sum())
    counts.thin += int((inside & visible & ~thick).sum())
    areas_px = image.areas_px * share * np.prod(window.scale_xyxy[:2])
    kept = np.flatnonzero(keep)
    tile = replace(
        image,
        size_hw=window.size_hw,
        boxes_xyxy=clipped[kept].astype(np.float32),
        labels=image.labels[kept],
        areas_px=areas_px[kept],
        iscrowd=image.iscrowd[kept],
        truncated=(image.truncated | ~whole)[kept],
        window=window,
    )
    return tile, kept


def _photo_names(images: Sequence[LabelledImage]) -> list[str]:
    """The file name of each image; with its folders, where two would share one name."""
    files = {os.path.abspath(image.path) for image in images}
    most = max(Counter(os.path.basename(file) for file in files).values(), default=0)
    if most <= 1:
        return [image.path.name for image in images]
    home = os.path.commonpath([os.path.dirname(file) for file in files])
    return [Path(os.path.relpath(os.path.abspath(image.path), home)).as_posix() for image in images]


def _own_gsd_mm(image: LabelledImage) -> float:
    given = image.attributes.get("gsd_mm")
    if given is None:
        raise DataError(
            f"{image.path}: has no attribute gsd_mm (millimetres of ground a pixel): give it for all photos, "
            "or to each image in the COCO JSON"
        )
    try:
        return float(given)
    except ValueError:
        raise DataError(f"{image.path}: its attribute gsd_mm is {given!r}, not a number of millimetres") from None


def _corners(corners_xyxy: tuple[int, int, int, int]) -> str:
    return " ".join(map(str, corners_xyxy))
