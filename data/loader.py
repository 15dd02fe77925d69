"""Training batches: an endless, reproducible stream that can be taken up again at any step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from data.dataset import Dataset
from data.errors import DataError
from data.pictures import read_picture

if TYPE_CHECKING:
    from data.augment import (
        Augment,
    )  # albumentations takes seconds to import; without augmentation none is needed

FitToInput = Callable[
    [NDArray[np.uint8], NDArray[np.float32]],
    tuple[NDArray[np.uint8], NDArray[np.float32]],
]
"""(picture (H, W, 3) BGR, its boxes (N, 4)) -> (the network's input (h, w, 3) RGB, the boxes in it).

The size h x w is always the same. Given as an argument: `data` must not know the detector's letterbox.
"""

_Key = tuple[int, int]  # (epoch, index of the picture)
_TIMEOUT_S = 600.0  # for one batch from a worker; it fires on a hanging disk, not on a slow one
_PERMUTATION, _AUGMENTATION = 1, 2  # keep the two uses of one seed apart


@dataclass
class Batch:
    """One step's pictures.

    Attributes:
        images: uint8 (B, 3, H, W), RGB.
        targets: B dicts of `boxes` float32 (n, 4), xyxy in input pixels, and `labels` int64 (n,), n >= 0.
        indices: which pictures of the dataset these are.

    """

    images: torch.Tensor
    targets: list[dict[str, torch.Tensor]]
    indices: list[int]


def training_batches(
    dataset: Dataset,
    *,
    fit: FitToInput,
    augment: Augment | None,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    steps: int,
    workers: int = 0,
    cache_mb: int = 512,
) -> Iterator[Batch]:
    """Batches `first_step` to `steps` - 1 of the stream that `seed` defines.

    The stream strings together one permutation of all pictures after another, so every batch is full
    and every picture comes equally often. What a batch holds depends on `seed`, `batch_size` and its
    number only: not on `workers`, and not on where the stream was taken up.

    Args:
        dataset: pictures without boxes stay in, as background. Crowd boxes are left out.
        fit: brings a picture and its boxes to the network's input; must pickle where workers are spawned.
        augment: applied before `fit`, or None.
        batch_size: pictures in each batch.
        seed: 0 or more.
        first_step: number of the first batch wanted.
        steps: number of batches in the whole run.
        workers: processes that prepare batches; 0 prepares them in this one.
        cache_mb: decoded pictures that each process keeps, in MiB; 0 for none.

    Raises:
        DataError: the dataset is empty, or a picture cannot be read.
        ValueError: a number out of its range.

    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no pictures to train on")
    if batch_size < 1 or seed < 0 or first_step < 0 or workers < 0 or cache_mb < 0:
        raise ValueError("batch_size must be 1 or more; seed, first_step, workers and cache_mb 0 or more")
    return _batches(
        DataLoader(
            _Samples(dataset, fit, augment, seed, cache_mb << 20),  # type: ignore[arg-type]
            batch_sampler=_Stream(len(dataset), batch_size, seed, first_step, steps),
            num_workers=workers,
            collate_fn=_collated,
            worker_init_fn=_settle_worker if workers else None,
            timeout=_TIMEOUT_S if workers else 0.0,
            # A generator of its own: the loader draws from it, and must not disturb the trainer's.
            generator=torch.Generator().manual_seed(seed),
        )
    )


def _batches(loader: DataLoader[Batch | DataError]) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork of a process with threads. The workers use none of this
        # process's threads and no device; `_settle_worker` keeps OpenCV and torch off their pools.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, DataError):
                raise batch
            yield batch
    finally:
        del batches  # ends the workers now, not when the last traceback that holds this frame is gone


class _Stream(Sampler[list[_Key]]):
    """The keys of each batch, in order."""

    def __init__(self, count: int, batch_size: int, seed: int, first_step: int, steps: int) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.numbers = range(first_step, steps)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[_Key]]:
        epoch, order = -1, np.zeros(0, np.int64)
        for number in self.numbers:
            keys = []
            for position in range(number * self.batch_size, (number + 1) * self.batch_size):
                if position // self.count != epoch:
                    epoch = position // self.count
                    order = np.random.default_rng([self.seed, _PERMUTATION, epoch]).permutation(self.count)
                keys.append((epoch, int(order[position % self.count])))
            yield keys


class _Samples(torch.utils.data.Dataset[tuple[int, torch.Tensor, dict[str, torch.Tensor]] | DataError]):
    """One prepared picture for each key; decoded pictures are kept while there is room."""

    def __init__(
        self, dataset: Dataset, fit: FitToInput, augment: Augment | None, seed: int, cache_bytes: int
    ) -> None:
        self.dataset, self.fit, self.augment, self.seed = dataset, fit, augment, seed
        self.cache: dict[int, NDArray[np.uint8]] = {}
        self.room_bytes = cache_bytes

    def __getitem__(self, key: _Key) -> tuple[int, torch.Tensor, dict[str, torch.Tensor]] | DataError:
        epoch, index = key
        try:
            image, boxes, labels = self._labelled(index)
            if self.augment is not None:
                sequence = np.random.SeedSequence([self.seed, _AUGMENTATION, epoch, index])
                seed = int(sequence.generate_state(1)[0])
                image, boxes, labels = self.augment(image, boxes, labels, seed=seed, other=self._any)
        except DataError as error:
            # Handed over, not raised: torch would wrap it into a page of traceback on its way here.
            return error
        fitted, boxes = self.fit(image, boxes)
        # Copies: what `fit` returns may be a view, or read-only, which torch takes with a warning.
        pixels = torch.from_numpy(np.array(fitted.transpose(2, 0, 1), np.uint8, order="C"))
        target = {
            "boxes": torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)),
            "labels": torch.from_numpy(np.array(labels, np.int64)),
        }
        return index, pixels, target

    def _labelled(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        picture = self.dataset.pictures[index]
        wanted = ~picture.iscrowd
        return self._image(index), picture.boxes_xyxy[wanted], picture.labels[wanted]

    def _any(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """What mosaic, mixup and copy-paste take from: any picture, drawn by the caller's generator."""
        return self._labelled(int(rng.integers(len(self.dataset))))

    def _image(self, index: int) -> NDArray[np.uint8]:
        image = self.cache.get(index)
        if image is None:
            picture = self.dataset.pictures[index]
            image = read_picture(picture.path)
            if image.shape[:2] != picture.size_hw:
                raise DataError(f"{picture.path}: changed its size since its labels were read")
            # Every picture comes once an epoch: evicting the oldest would throw out just what comes next.
            if image.nbytes <= self.room_bytes:
                self.room_bytes -= image.nbytes
                image.setflags(write=False)
                self.cache[index] = image
        return image


def _collated(
    samples: list[tuple[int, torch.Tensor, dict[str, torch.Tensor]] | DataError],
) -> Batch | DataError:
    prepared = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        prepared.append(sample)
    images = torch.stack([pixels for _, pixels, _ in prepared])
    return Batch(images, [target for _, _, target in prepared], [index for index, _, _ in prepared])


def _settle_worker(worker: int) -> None:
    """One thread for each worker: more would fight over the same cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
