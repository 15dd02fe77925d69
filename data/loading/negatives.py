"""Pictures that show nothing to be found: soil, stones, hoses, stubble, whatever the detector takes for a plant."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset import Dataset, Picture
from data.errors import DataError
from data.images import PICTURE_SUFFIXES, picture_size_hw


def with_negatives(dataset: Dataset, folder: Path) -> tuple[Dataset, int]:
    """A dataset and, behind its own pictures, every picture under a folder as background.

    Args:
        dataset: the labelled pictures.
        folder: pictures at any depth; files of other kinds are left alone.

    Returns:
        The longer dataset, and how many pictures of it are negatives.

    Raises:
        DataError: no such folder, no picture in it, or one that the dataset holds already, perhaps with boxes.

    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of pictures without anything to find")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder}: no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) in it")
    labelled = {picture.path.resolve() for picture in dataset.pictures}
    for path in paths:
        if path.resolve() in labelled:
            raise DataError(f"{path}: is a picture of {dataset.name} too; it cannot be labelled and show nothing")
    first_id = 1 + max((picture.image_id for picture in dataset.pictures), default=0)
    empty = np.zeros(0)
    negatives = tuple(
        Picture(
            image_id=first_id + number,
            path=path,
            size_hw=picture_size_hw(path),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            labels=empty.astype(np.int64),
            areas_px=empty.astype(np.float32),
            iscrowd=empty.astype(np.bool_),
        )
        for number, path in enumerate(paths)
    )
    return replace(dataset, pictures=(*dataset.pictures, *negatives)), len(negatives)
