"""Training batches: an endless, reproducible sequence that can be resumed at any step."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from data.dataset import Dataset
from data.errors import DataError
from data.images import working_hw
from data.loading.cache import CacheOptions, open_cache
from data.loading.samples import FitToInput, Sample, Samples
from data.loading.sampling import SamplingOptions, TrainingSampler

if TYPE_CHECKING:
    from data.augmentation.augment import Augment  # imports albumentations: seconds that only its users spend

ScaleRange = Callable[[tuple[int, int]], tuple[float, float]]
"""An image's height and width -> the fewest and the most input pixels that one of its pixels can become."""

_TIMEOUT_S = 600.0  # for one batch from a worker; it fires on a hanging disk, not on a slow one


@dataclass(frozen=True)
class LoadingOptions:
    """How batches are prepared; none of this changes what they hold.

    Attributes:
        workers: processes that prepare batches; 0 prepares them in this one.
        cache: where decoded images are kept.
        pin_memory: deliver images in page-locked memory, from which CUDA copies while the CPU goes on.

    Raises:
        ValueError: `workers` is below 0.

    """

    workers: int = 0
    cache: CacheOptions = CacheOptions()
    pin_memory: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, got {self.workers}")


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
    sampling: SamplingOptions,
    *,
    fit: FitToInput,
    augment: Augment | None = None,
    scale_range: ScaleRange | None = None,
    loading: LoadingOptions | None = None,
    note: Callable[[str], None] | None = None,
) -> Iterator[Batch]:
    """Batches `first_step` to `steps` - 1 of the sequence that `sampling` defines.

    What a batch holds depends on the seed, the batch size, the weights, its number and whether it may be mixed:
    not on the workers or the cache, and not on where the sequence was resumed.

    Example:
        >>> sampling = SamplingOptions(batch_size=4, seed=0, steps=100)
        >>> for batch in training_batches(dataset, sampling, fit=fit, loading=LoadingOptions(workers=2)):
        ...     print(batch.images.shape)

    Args:
        dataset: images without boxes stay in, as background. Crowd boxes are left out.
        sampling: which images, in which order, in how many batches.
        fit: brings an image and its boxes to the network's input; must pickle where workers are spawned.
        augment: applied before `fit`, or None.
        scale_range: how far `augment` and `fit` together shrink and enlarge an image: `Augment.scale_range`. Images
            are then worked on at `working_hw`, and large JPEGs are decoded at a fraction of their size. None works
            on whole images.
        loading: workers, cache and memory; None: the defaults.
        note: called with one line where the cache cannot hold all images.

    Raises:
        DataError: the dataset is empty, an image cannot be read, or the cache's folder cannot be used.

    """
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to train on")
    loading = loading or LoadingOptions()
    sizes_hw = [working_hw(p.size_hw, scale_range(p.size_hw)) if scale_range else p.size_hw for p in dataset.images]
    cache = open_cache(dataset, sizes_hw, loading.cache, sharers=loading.workers, note=note)
    samples = Samples(dataset, sizes_hw, cache=cache, fit=fit, augment=augment, seed=sampling.seed)
    return _batches(
        DataLoader(
            samples,  # type: ignore[arg-type]
            batch_sampler=TrainingSampler(len(dataset), sampling),
            num_workers=loading.workers,
            collate_fn=_collated,
            worker_init_fn=_settle_worker if loading.workers else None,
            timeout=_TIMEOUT_S if loading.workers else 0.0,
            pin_memory=loading.pin_memory,
            # A generator of its own: the loader draws from it, and must not disturb the trainer's.
            generator=torch.Generator().manual_seed(sampling.seed),
        )
    )


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
        """Called by torch's loader where `pin_memory` is set."""
        return _Packed(self.images.pin_memory(), self.boxes, self.labels, self.indices)

    def unpacked(self) -> Batch:
        columns = zip(self.boxes, self.labels, strict=True)
        targets = [{"boxes": torch.from_numpy(b), "labels": torch.from_numpy(ls)} for b, ls in columns]
        return Batch(self.images.permute(0, 3, 1, 2), targets, self.indices)


def _collated(samples: list[Sample | DataError]) -> _Packed | DataError:
    prepared: list[Sample] = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        prepared.append(sample)
    indices, fitted, boxes, labels = (list(column) for column in zip(*prepared, strict=True))
    return _Packed(torch.from_numpy(np.stack(fitted)), boxes, labels, indices)


def _settle_worker(worker: int) -> None:
    """One thread for each worker: more would compete for the same cores. Signals are the main process's.

    `timeout`, systemd and terminals send theirs to the whole group: a worker that died of it would take the steps
    since the last save with it. The loader ends its workers itself, and they watch whether it is alive.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
