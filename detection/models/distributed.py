"""Sums over the processes of one training, so that many learn as one would."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a scalar over all processes of the training, without a gradient; `value` itself for one process.

    Losses are divided by this: then the mean of all processes' gradients, which is what DDP applies, is the gradient
    of one process that sees all of their images.

    Args:
        value: a scalar of any float dtype, on the device that the processes communicate by.

    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()


def one_over_processes() -> float:
    """One over the number of processes: the `mean_over_processes` of a count that is 1 in all processes together."""
    initialised = distributed.is_available() and distributed.is_initialized()
    return 1.0 / distributed.get_world_size() if initialised else 1.0
