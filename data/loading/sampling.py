"""The order of the images: an endless sequence of shuffled epochs, reproducible from any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from data.dataset import Dataset

_PERMUTATION, _ROUNDING = 1, 3  # apart from each other, and from the loader's use of the same seed


@dataclass(frozen=True, eq=False)
class SamplingOptions:
    """Which batches of the endless sequence a process takes.

    Attributes:
        batch_size: images in a batch of this process.
        seed: of the order and of the augmentation, 0 or more.
        steps: number of batches in the whole run.
        first_step: number of the first batch to yield.
        weights: float (N,), relative frequency of each image; None: all equal.
        rank: which part of a step's images this process takes, of `world`; together the processes take what one
            process with a batch of `world * batch_size` would.
        world: number of processes.
        mixing: by step, whether its images may be mixed with others (mosaic, copy-paste, mixup). It is called
            when the step's images are chosen, a few steps ahead. None: always.

    Raises:
        ValueError: a number is out of its range, or the weights are not finite, below 0, or all 0.

    """

    batch_size: int
    seed: int
    steps: int
    first_step: int = 0
    weights: NDArray[np.float64] | None = None
    rank: int = 0
    world: int = 1
    mixing: Callable[[int], bool] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.seed < 0 or self.first_step < 0:
            raise ValueError("batch_size must be 1 or more; seed and first_step 0 or more")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world} processes")
        weights = self.weights
        if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError("weights must be finite, 0 or more, and one of them more than 0")


class SampleKey(NamedTuple):
    """One image at one place of the sequence.

    Attributes:
        epoch: counted from 0.
        image: its index in the dataset.
        copy: how many times it has occurred in this epoch before.
        mixed: whether it may be mixed with others.

    """

    epoch: int
    image: int
    copy: int = 0
    mixed: bool = True


class TrainingSampler(Sampler[list[SampleKey]]):
    """The keys of each batch, in order: shuffled epochs joined end to end, so that every batch is full.

    An epoch has as many places as there are images. An image of weight w (scaled to a mean of 1) takes w of them on
    average, never fewer than w rounded down nor more than w rounded up: once each, where all weigh the same.

    Args:
        count: number of images, 1 or more.
        options: which batches; `weights`, where given, has `count` entries.

    Raises:
        ValueError: no images, or not one weight for each.

    """

    def __init__(self, count: int, options: SamplingOptions) -> None:
        weights = np.ones(count) if options.weights is None else options.weights
        if count < 1 or len(weights) != count:
            raise ValueError(f"{count} images with {len(weights)} weights: one or more images, each with its weight")
        self.weights = weights * (count / weights.sum())
        self.options = options
        self.numbers = range(options.first_step, options.steps)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        count, options = len(self.weights), self.options
        epoch, turns = -1, np.zeros((0, 2), np.int64)
        for number in self.numbers:
            mixed = options.mixing is None or options.mixing(number)
            keys = []
            first = (number * options.world + options.rank) * options.batch_size
            for position in range(first, first + options.batch_size):
                if position // count != epoch:
                    epoch = position // count
                    turns = self._turns(epoch)
                image, copy = turns[position % count].tolist()
                keys.append(SampleKey(epoch, image, copy, mixed))
            yield keys

    def _turns(self, epoch: int) -> NDArray[np.int64]:
        """Image and copy of each turn, int64 (N, 2).

        Systematic sampling: W. G. Madow, Annals of Mathematical Statistics 20 (1949).
        """
        count = len(self.weights)
        start = np.random.default_rng([self.options.seed, _ROUNDING, epoch]).random()
        # the last sum equals `count` up to rounding, and must be exact: an epoch has that many places
        sums = np.append(np.cumsum(self.weights)[:-1], count)
        times = np.diff(np.floor(sums + start), prepend=np.floor(start)).astype(np.int64)
        copies = np.concatenate([np.arange(n) for n in times])
        turns = np.stack([np.repeat(np.arange(count), times), copies], axis=1)
        return turns[np.random.default_rng([self.options.seed, _PERMUTATION, epoch]).permutation(count)]


def image_weights(
    dataset: Dataset, *, balance: float = 0.0, negatives: int = 0, share: float = 0.0
) -> NDArray[np.float64]:
    """Sampling weights: higher for images with rare classes, and a given share of all samples for negatives.

    An image has the weight of its rarest class, (images with the commonest class / images with it) ** balance;
    with 0.5 that is the repeat factor of A. Gupta et al., "LVIS" (CVPR 2019), of the commonest class's frequency.

    Args:
        dataset: the images; the last `negatives` of them are the negatives.
        balance: 0 (all equal) to 1 (every class as frequent as the commonest).
        negatives: how many of the images, the last ones, contain no object.
        share: of negatives among the images learned from, 0 to below 1.

    Returns:
        Float64 (N,), positive; only the ratios matter.

    """
    count = len(dataset)
    classes = [np.unique(image.labels[~image.iscrowd]) for image in dataset.images]
    shown = np.bincount(np.concatenate([*classes, np.zeros(0, np.int64)]), minlength=len(dataset.class_names))
    rarity = (shown.max(initial=1) / np.maximum(shown, 1)) ** balance
    weights = np.array([rarity[own].max(initial=1.0) for own in classes])
    if negatives:
        others = weights[: count - negatives].sum()
        weights[count - negatives :] = share / (1 - share) * others / negatives if others else 1.0
    return weights
