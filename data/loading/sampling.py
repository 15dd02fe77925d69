"""Which image comes when: an endless stream of epochs, the same for the same seed wherever it is taken up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from data.dataset import Dataset

_PERMUTATION, _ROUNDING = 1, 3  # apart from each other, and from the loader's use of the same seed


class Key(NamedTuple):
    """One image's turn.

    Attributes:
        epoch: counted from 0.
        image: its index in the dataset.
        copy: how many times it has come in this epoch before.
        mixed: whether it may be mixed with others (mosaic and its like).

    """

    epoch: int
    image: int
    copy: int = 0
    mixed: bool = True


class Stream(Sampler[list[Key]]):
    """The keys of each batch, in order: one shuffled epoch strung to the next, so that every batch is full.

    An epoch has as many turns as there are images. An image of weight w has w of them on average, never fewer
    than w rounded down nor more than w rounded up: once each, where all weigh the same.

    Args:
        weights: float (N,), how often each image is to come; only their ratios matter.
        batch_size: images in a batch of this process.
        seed: of the order.
        first_step: number of the first batch.
        steps: number of batches in the whole run.
        rank: which part of a step's images this process takes, of `world`; together they take what one
            process with a batch of `world * batch_size` would.
        world: number of processes.
        mixing: whether images of a step may be mixed; asked when the step is drawn up. None: always.

    """

    def __init__(
        self,
        weights: NDArray[np.float64],
        *,
        batch_size: int,
        seed: int,
        first_step: int,
        steps: int,
        rank: int = 0,
        world: int = 1,
        mixing: Callable[[int], bool] | None = None,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        if not len(weights) or (weights < 0).any() or not np.isfinite(weights).all() or not weights.any():
            raise ValueError("weights must be finite, 0 or more, and one of them more than 0")
        self.weights = weights * (len(weights) / weights.sum())
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.numbers = range(first_step, steps)
        self.mixing = mixing

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[Key]]:
        count = len(self.weights)
        epoch, turns = -1, np.zeros((0, 2), np.int64)
        for number in self.numbers:
            mixed = self.mixing is None or self.mixing(number)
            keys = []
            first = (number * self.world + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // count != epoch:
                    epoch = position // count
                    turns = self._turns(epoch)
                image, copy = turns[position % count].tolist()
                keys.append(Key(epoch, image, copy, mixed))
            yield keys

    def _turns(self, epoch: int) -> NDArray[np.int64]:
        """Image and copy of each turn, int64 (N, 2).

        Systematic sampling: W. G. Madow, Annals of Mathematical Statistics 20 (1949).
        """
        count = len(self.weights)
        start = np.random.default_rng([self.seed, _ROUNDING, epoch]).random()
        # the last sum is `count` but for rounding, and must be: an epoch has that many turns
        sums = np.append(np.cumsum(self.weights)[:-1], count)
        times = np.diff(np.floor(sums + start), prepend=np.floor(start)).astype(np.int64)
        copies = np.concatenate([np.arange(n) for n in times])
        turns = np.stack([np.repeat(np.arange(count), times), copies], axis=1)
        return turns[np.random.default_rng([self.seed, _PERMUTATION, epoch]).permutation(count)]


def image_weights(
    dataset: Dataset, *, balance: float = 0.0, negatives: int = 0, share: float = 0.0
) -> NDArray[np.float64]:
    """How often each image is to come: those with rare classes more often, negatives so that they have their share.

    An image weighs as its rarest class does, (images with the commonest class / images with it) ** balance;
    with 0.5 that is the repeat factor of A. Gupta et al., "LVIS" (CVPR 2019), of the commonest class's frequency.

    Args:
        dataset: the images; the last `negatives` of them are the negatives.
        balance: 0, all alike, to 1, every class as often as the commonest.
        negatives: how many of the images, the last ones, show nothing to be found.
        share: of the turns that negatives are to have, 0 to below 1.

    Returns:
        Float (N,), positive.

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
