"""Negative images, without any object: soil, stones, hoses, stubble, whatever the detector mistakes for a plant."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.images import IMAGE_SUFFIXES, image_size_hw


def with_negatives(dataset: Dataset, folder: Path) -> tuple[Dataset, int]:
    """A dataset with every image under a folder appended as background.

    Args:
        dataset: the labelled images.
        folder: images at any depth; other files are ignored.

    Returns:
        The longer dataset, and how many images of it are negatives.

    Raises:
        DataError: no such folder, no image in it, or one of them is in the dataset already, perhaps with boxes.

    """
    if not os.path.isdir(folder):
        raise DataError(f"{folder}: no such folder of negative images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in it")
    labelled = {image.path.resolve() for image in dataset.images}
    for path in paths:
        if path.resolve() in labelled:
            raise DataError(f"{path}: is an image of {dataset.name} too; it cannot be labelled and a negative")
    first_id = 1 + max((image.image_id for image in dataset.images), default=0)
    empty = np.zeros(0)
    negatives = tuple(
        LabelledImage(
            image_id=first_id + number,
            path=path,
            size_hw=image_size_hw(path),
            boxes_xyxy=np.zeros((0, 4), np.float32),
            labels=empty.astype(np.int64),
            areas_px=empty,
            iscrowd=empty.astype(np.bool_),
        )
        for number, path in enumerate(paths)
    )
    return replace(dataset, images=(*dataset.images, *negatives)), len(negatives)
