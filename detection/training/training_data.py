"""The images of a training: read, checked, cut into tiles, and joined with images that show nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data import Dataset
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loading.negatives import with_negatives
from data.loading.tiles import TileSettings, tile_dataset
from detection.training.watcher import TrainingError, Watcher


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Images to learn from and to validate on.

    Attributes:
        train: to learn from, as tiles where tiles are wanted; the last `negatives` images show no object.
        validation: likewise, to score on; None without a validation split.
        negatives: how many images of `train` are there as background only.
        fingerprint: of the training images as they were read, whole and without the negatives.

    """

    train: Dataset
    validation: Dataset | None
    negatives: int
    fingerprint: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Label 0, 1, ... by name."""
        return self.train.class_names


def load_training_data(
    train: str,
    val: str | None,
    *,
    reading: Mapping[str, Any],
    allow: Sequence[str] = (),
    tiles: TileSettings | None = None,
    negatives: str | None = None,
    how_to_get: str | None = None,
    watcher: Watcher,
) -> TrainingData:
    """Read and check the images of a training.

    Args:
        train: dataset to learn from.
        val: dataset to validate on, or None.
        reading: keyword arguments of `data.formats.load.load_dataset` for both.
        allow: kinds of errors of `swath data check` that do not stop the training.
        tiles: how photos are cut into tiles; None: whole images.
        negatives: dataset or folder of images that show no object, or None.
        how_to_get: how to get the images, for the error message where they are missing.
        watcher: is notified of what was read and dropped, and of the progress of the check.

    Raises:
        TrainingError: a dataset that does not exist, without images, boxes or tiles with a box, or splits without a
            common class.
        DataError: a dataset that cannot be used.

    """
    require_datasets(train, val, how_to_get=how_to_get)
    load: Callable[..., Dataset] = partial(load_dataset, **reading)
    learned = load_allowing(lambda: load(train, split="train"), allow)
    validation = load_allowing(lambda: load(val, split="val"), allow) if val else None
    _describe(learned, validation, watcher)
    for line in check_before_training(learned, validation, allow=allow, progress=watcher.progress):
        watcher.note(line)
    fingerprint = learned.fingerprint()
    if tiles is not None:
        learned = _tiled("train", learned, tiles, watcher)
        validation = _tiled("val", validation, tiles, watcher) if validation is not None else None
    if validation is not None and not _findable(validation, learned.class_names):
        watcher.note(
            "val: no box of a class that is trained: AP is undefined, so that the last weights are kept and "
            "train.patience is not used; give data.val images with boxes"
        )
    learned, count = _with_negatives(learned, negatives, tiles, watcher)
    return TrainingData(learned, validation, count, fingerprint)


def require_datasets(train: str, val: str | None, *, how_to_get: str | None = None) -> None:
    """Check that the datasets of a training are there, before anything takes long.

    Args:
        train: dataset to learn from.
        val: dataset to validate on, or None.
        how_to_get: how to get the images, for the error message.

    Raises:
        TrainingError: a dataset does not exist.

    """
    for key, path in (("train", train), ("val", val)):
        if path and not Path(path).exists():
            hint = f"{how_to_get.rstrip('.')}; " if how_to_get else ""
            own = f"your own images: -s data.{key}=DATASET"
            raise TrainingError(f"data.{key}: {path}: no such file or folder; {hint}{own}")


def _describe(learned: Dataset, validation: Dataset | None, watcher: Watcher) -> None:
    for name, part in (("train", learned), ("val", validation)):
        if part is None:
            continue
        if not len(part):
            raise TrainingError(f"data.{name}: {part.name} has no images")
        watcher.note(
            f"{name}: {len(part)} images, {part.box_count} boxes of {', '.join(part.class_names)} ({part.name})"
        )
        for notice in part.notices:
            watcher.note(f"{name}: {notice}")
    if learned.box_count == 0:
        raise TrainingError(f"data.train: {learned.name} has no boxes; there is nothing to learn")
    if validation is not None and not set(validation.class_names) & set(learned.class_names):
        raise TrainingError(f"data.val: {validation.name} has no class in common with data.train")


def _findable(validation: Dataset, class_names: Sequence[str]) -> int:
    """Boxes that a detector of these classes can find and that count: no crowds."""
    known = np.array([name in class_names for name in validation.class_names], np.bool_)
    return sum(int((known[image.labels] & ~image.iscrowd).sum()) for image in validation.images)


def _with_negatives(
    dataset: Dataset, folder: str | None, tiles: TileSettings | None, watcher: Watcher
) -> tuple[Dataset, int]:
    if folder is None:
        return dataset, 0
    both, negatives = with_negatives(dataset, Path(folder))
    if tiles is not None:
        photos = replace(both, images=both.images[len(dataset) :])
        cut = _tiled("negatives", photos, tiles, watcher)
        first_id = 1 + max((image.image_id for image in dataset.images), default=0)
        more = tuple(replace(tile, image_id=first_id + number) for number, tile in enumerate(cut.images))
        both, negatives = replace(dataset, images=(*dataset.images, *more)), len(more)
    watcher.note(f"negatives: {negatives} images ({folder})")
    return both, negatives


def _tiled(name: str, photos: Dataset, tiles: TileSettings, watcher: Watcher) -> Dataset:
    tiled, counts = tile_dataset(photos, tiles)
    for line in counts.lines():
        watcher.note(f"{name}: {line}")
    if name == "train" and tiled.box_count == 0:
        raise TrainingError(f"data.tiles: the tiles of {photos.name} keep no box; there is nothing to learn")
    return tiled
