"""Training batches: an endless, reproducible stream that can be taken up again at any step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from data.dataset import Dataset
from data.errors import DataError
from data.images import read_image_at, working_hw
from data.loading.cache import DiskCache, PixelCache, RamCache, default_folder
from data.loading.sampling import Key, Stream
from data.window import Window

if TYPE_CHECKING:
    from data.augmentation.augment import (
        Augment,
    )  # albumentations takes seconds to import; without augmentation none is needed

FitToInput = Callable[
    [NDArray[np.uint8], NDArray[np.float32]],
    tuple[NDArray[np.uint8], NDArray[np.float32]],
]
"""(image (H, W, 3) BGR, its boxes (N, 4)) -> (the network's input (h, w, 3) RGB, the boxes in it).

The size h x w is always the same. Given as an argument: `data` must not know the detector's letterbox.
"""

ScaleRange = Callable[[tuple[int, int]], tuple[float, float]]
"""An image's height and width -> the fewest and the most input pixels that one of its pixels can become."""

CacheKind = Literal["none", "ram", "disk"]

_TIMEOUT_S = 600.0  # for one batch from a worker; it fires on a hanging disk, not on a slow one
_MIB = 1 << 20
_AUGMENTATION = 2  # apart from the uses that `data.loading.sampling` makes of the same seed


@dataclass
class Batch:
    """One step's images.

    Attributes:
        images: uint8 (B, 3, H, W), RGB, in memory with the channels innermost.
        targets: B dicts of `boxes` float32 (n, 4), xyxy in input pixels, and `labels` int64 (n,), n >= 0.
        indices: which images of the dataset these are.

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
    scale_range: ScaleRange | None = None,
    cache: CacheKind = "ram",
    cache_mb: int = 1024,
    pin: bool = False,
    note: Callable[[str], None] | None = None,
    weights: NDArray[np.float64] | None = None,
    rank: int = 0,
    world: int = 1,
    mixing: Callable[[int], bool] | None = None,
) -> Iterator[Batch]:
    """Batches `first_step` to `steps` - 1 of the stream that `seed` defines.

    The stream strings together one shuffled epoch after another (`data.loading.sampling.Stream`), so every batch is
    full and every image comes as often as it is to. What a batch holds depends on `seed`, `batch_size`, its
    number and what `mixing` says of it only: not on `workers` or the cache, and not on where the stream was
    taken up.

    Args:
        dataset: images without boxes stay in, as background. Crowd boxes are left out.
        fit: brings an image and its boxes to the network's input; must pickle where workers are spawned.
        augment: applied before `fit`, or None.
        batch_size: images in each batch.
        seed: 0 or more.
        first_step: number of the first batch wanted.
        steps: number of batches in the whole run.
        workers: processes that prepare batches; 0 prepares them in this one.
        scale_range: how far `augment` and `fit` together shrink and enlarge an image, as
            `Augment.scale_range` tells; images are then worked on at `working_hw`, and large JPEGs are
            not decoded whole. None works on whole images.
        cache: where images stay after they were first decoded: nowhere, in memory that all workers
            share, or in files that the next run finds again (`data.loading.cache.default_folder`).
        cache_mb: how much the cache may hold, all workers together, in MiB.
        pin: hand over images in page-locked memory, from which CUDA copies while the CPU goes on.
        note: told when the cache cannot hold all images.
        weights: float (N,), how often each image is to come, relative to the others; None: all alike.
        rank: which part of every step this process prepares.
        world: of how many processes.
        mixing: whether images of a step may be mixed with others (mosaic and its like), asked when the
            step is drawn up, a few steps ahead. None: always.

    Raises:
        DataError: the dataset is empty, an image cannot be read, or the cache's folder not be used.
        ValueError: a number out of its range.

    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to train on")
    if batch_size < 1 or seed < 0 or first_step < 0 or workers < 0 or cache_mb < 0:
        raise ValueError("batch_size must be 1 or more; seed, first_step, workers and cache_mb 0 or more")
    sizes_hw = [working_hw(p.size_hw, scale_range(p.size_hw)) if scale_range else p.size_hw for p in dataset.images]
    return _batches(
        DataLoader(
            _Samples(  # type: ignore[arg-type]
                dataset, sizes_hw, _cache(cache, dataset, sizes_hw, cache_mb, workers, note), fit, augment, seed
            ),
            batch_sampler=Stream(
                np.ones(len(dataset)) if weights is None else weights,
                batch_size=batch_size,
                seed=seed,
                first_step=first_step,
                steps=steps,
                rank=rank,
                world=world,
                mixing=mixing,
            ),
            num_workers=workers,
            collate_fn=_collated,
            worker_init_fn=_settle_worker if workers else None,
            timeout=_TIMEOUT_S if workers else 0.0,
            pin_memory=pin,
            # A generator of its own: the loader draws from it, and must not disturb the trainer's.
            generator=torch.Generator().manual_seed(seed),
        )
    )


def _cache(
    kind: CacheKind,
    dataset: Dataset,
    sizes_hw: list[tuple[int, int]],
    cache_mb: int,
    workers: int,
    note: Callable[[str], None] | None,
) -> PixelCache | None:
    if kind == "none" or not cache_mb:
        return None
    kept: PixelCache
    if kind == "ram":
        kept = RamCache(sizes_hw, cache_mb * _MIB, workers)
    else:
        paths: list[Path] = [image.path for image in dataset.images]
        windows = [image.window for image in dataset.images]
        kept = DiskCache(default_folder(), paths, sizes_hw, cache_mb * _MIB, windows)
    if note is not None and kept.kept < len(dataset):
        needed_mb = sum(height * width * 3 for height, width in sizes_hw) // _MIB + 1
        note(
            f"the {kind} cache holds {kept.kept} of {len(dataset)} images; the others are decoded every time "
            f"(train.cache_mb is {cache_mb}; all of them need {needed_mb})"
        )
    return kept


def _batches(loader: DataLoader[_Packed | DataError]) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork of a process with threads. The workers use none of this
        # process's threads and no device; `_settle_worker` keeps OpenCV and torch off their pools.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, DataError):
                raise batch
            yield batch.unpacked()
    finally:
        del batches  # ends the workers now, not when the last traceback that holds this frame is gone


_Sample = tuple[int, NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
"""(index, the network's input (h, w, 3) RGB, boxes (n, 4) in it, labels (n,))"""


class _Samples(torch.utils.data.Dataset[_Sample | DataError]):
    """One prepared image for each key."""

    def __init__(
        self,
        dataset: Dataset,
        sizes_hw: list[tuple[int, int]],
        cache: PixelCache | None,
        fit: FitToInput,
        augment: Augment | None,
        seed: int,
    ) -> None:
        self.dataset, self.sizes_hw, self.cache = dataset, sizes_hw, cache
        self.fit, self.augment, self.seed = fit, augment, seed
        self.windows_of: dict[Path, list[int]] = {}
        for index, image in enumerate(dataset.images):
            if image.window is not None:
                self.windows_of.setdefault(image.path, []).append(index)

    def __getitem__(self, key: Key) -> _Sample | DataError:
        index = key.image
        try:
            pixels, boxes, labels = self._labelled(index)
            if self.augment is not None:
                again = [key.copy] if key.copy else []
                sequence = np.random.SeedSequence([self.seed, _AUGMENTATION, key.epoch, index, *again])
                seed = int(sequence.generate_state(1)[0])
                image = self.dataset.images[index]
                photo_px = image.size_hw[1] / pixels.shape[1]
                if image.window is not None:
                    photo_px /= float(image.window.scale_xyxy[0])
                pixels, boxes, labels = self.augment(
                    pixels, boxes, labels, seed=seed, other=self._any, photo_px=photo_px, mixed=key.mixed
                )
        except DataError as error:
            # Handed over, not raised: torch would wrap it into a page of traceback on its way here.
            return error
        fitted, boxes = self.fit(pixels, boxes)
        # Copies: what comes back may be a view, or read-only, which torch takes with a warning.
        return index, fitted, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)

    def _labelled(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        return self._image(index), *self._boxes(index)

    def _any(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """What mosaic, mixup and copy-paste take from: any image, drawn by the caller's generator."""
        return self._labelled(int(rng.integers(len(self.dataset))))

    def _image(self, index: int) -> NDArray[np.uint8]:
        """An image at its working size, uint8 (h, w, 3) BGR; not to be written to."""
        pixels = None if self.cache is None else self.cache.get(index)
        if pixels is None:
            image = self.dataset.images[index]
            if image.window is not None:
                return self._windowed(index, image.path, image.window)
            pixels = read_image_at(image.path, image.size_hw, self.sizes_hw[index])
            pixels.setflags(write=False)
            if self.cache is not None:
                self.cache.put(index, pixels)
        return pixels

    def _windowed(self, index: int, path: Path, window: Window) -> NDArray[np.uint8]:
        """A window of a photo. Decoding the photo is what takes time, so its other windows are kept too."""
        photo = read_image_at(path, window.photo_hw, window.photo_hw)
        image = window.cut(photo, self.sizes_hw[index])
        image.setflags(write=False)
        if self.cache is not None and index < self.cache.kept:
            for other in self.windows_of[path]:
                beside = self.dataset.images[other].window
                if beside is not None and other < self.cache.kept:
                    self.cache.put(other, beside.cut(photo, self.sizes_hw[other]))
        return image

    def _boxes(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What is to be learned of an image: boxes (n, 4) xyxy at its working size, and their labels (n,)."""
        image = self.dataset.images[index]
        wanted = ~image.iscrowd
        (height, width), (working_h, working_w) = image.size_hw, self.sizes_hw[index]
        scale_xyxy = np.array([working_w / width, working_h / height] * 2)
        return (image.boxes_xyxy[wanted] * scale_xyxy).astype(np.float32), image.labels[wanted]


@dataclass
class _Packed:
    """A batch on its way out of a worker: only the images go through shared memory.

    Every tensor would take a file descriptor of its own and two system calls; boxes and labels are small.
    """

    images: torch.Tensor
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]
    indices: list[int]

    def pin_memory(self) -> _Packed:
        """What torch's loader calls where pinning was asked for."""
        return _Packed(self.images.pin_memory(), self.boxes, self.labels, self.indices)

    def unpacked(self) -> Batch:
        columns = zip(self.boxes, self.labels, strict=True)
        targets = [{"boxes": torch.from_numpy(b), "labels": torch.from_numpy(ls)} for b, ls in columns]
        return Batch(self.images.permute(0, 3, 1, 2), targets, self.indices)


def _collated(samples: list[_Sample | DataError]) -> _Packed | DataError:
    prepared: list[_Sample] = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        prepared.append(sample)
    indices, fitted, boxes, labels = (list(column) for column in zip(*prepared, strict=True))
    return _Packed(torch.from_numpy(np.stack(fitted)), boxes, labels, indices)


def _settle_worker(worker: int) -> None:
    """One thread for each worker: more would fight over the same cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
