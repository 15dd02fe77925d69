"""Writes tiles as a dataset of their own, for other tools; training cuts them as it goes and needs no copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2

from data.dataset import Dataset, LabelledImage
from data.files import whole_folder, write_whole
from data.formats.coco import save_coco
from data.images import maps_allowed

TileFormat = Literal["auto", "jpg", "png"]

_JPEG_QUALITY = 95
_SUFFIX = {"jpg": ".jpg", "png": ".png"}


def write_tiles(
    tiled: Dataset,
    folder: Path,
    *,
    format: TileFormat = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write tiles as images of their own: `images/` and `annotations.json` (COCO).

    Args:
        tiled: the result of `tile_dataset`; each photo is decoded once, and may be as large as OpenCV decodes.
        folder: new, or empty. It appears complete or not at all, also if the writing is interrupted.
        format: jpg (quality 95), png, or auto: jpg for tiles of JPEGs, png for all others.
        progress: called after each tile with (done, total).

    Raises:
        DataError: the folder is not empty, or an image cannot be read or written.

    """
    with maps_allowed(), whole_folder(folder) as staging:
        written: list[LabelledImage] = []
        names: set[str] = set()
        for image, pixels in tiled.read():
            kind = format
            if kind == "auto":
                kind = "jpg" if image.path.suffix.lower() in (".jpg", ".jpeg") else "png"
            # the corners at the end, from which data.splits.groups recognises a tile and its photo
            name = f"{image.path.stem}_{image.attributes['window_xyxy'].replace(' ', '_')}"
            if name in names:  # photos of one name in several folders
                name = f"{image.image_id}_{name}"
            names.add(name)
            place = staging / "images" / f"{name}{_SUFFIX[kind]}"
            settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if kind == "jpg" else []
            _, encoded = cv2.imencode(_SUFFIX[kind], pixels, settings)
            write_whole(place, encoded.tobytes(), sync=False)
            written.append(replace(image, path=place, window=None))
            if progress:
                progress(len(written), len(tiled))
        save_coco(replace(tiled, images=tuple(written)), staging / "annotations.json")
