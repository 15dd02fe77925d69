"""The images that a run's recipe names for its export: to check parity on, and to calibrate int8 with.

The only place of this package that reads the recipe of a run.
"""

from __future__ import annotations

from collections.abc import Callable

from data import Dataset
from data.loading.tiles import tile_dataset
from detection.models.checkpoint import Trained
from detection.recipe.reading import written_recipe


def parity_images(trained: Trained, load: Callable[..., Dataset]) -> tuple[Dataset, bool]:
    """Images to check a run's export on, and whether they were held out from training.

    Args:
        trained: the run's detector.
        load: reads a dataset, as `data.formats.load_dataset` does.

    Returns:
        The validation split and True, or, where the run had none, its training images and False.

    """
    data = written_recipe(trained.recipe).data
    split = "val" if data.val else "train"
    return _tiled(load(data.val or data.train, split=split, **data.reading), trained), bool(data.val)


def calibration_images(trained: Trained, load: Callable[..., Dataset]) -> Dataset:
    """Images to calibrate int8 with, where no others are given: the run's training images."""
    data = written_recipe(trained.recipe).data
    return _tiled(load(data.train, split="train", **data.reading), trained)


def _tiled(images: Dataset, trained: Trained) -> Dataset:
    """Tiles of the images, if the run was trained on tiles."""
    tiles = written_recipe(trained.recipe).data.tiles
    return images if tiles is None else tile_dataset(images, tiles)[0]
