"""What the processes of one training agree on, so that many learn as one would."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_processes(number: Tensor) -> Tensor:
    """The mean of a scalar over all processes of the training; itself where there is but one. No gradient.

    What a loss is divided by has to be this: then the mean of all processes' gradients, which is what they take
    their step along, is the gradient of one process that sees all of their images.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    mean = number.detach().clone()
    distributed.all_reduce(mean)
    return mean / distributed.get_world_size()


def least_mean() -> float:
    """One over the number of processes: the `mean_over_processes` of something of which there is one in all."""
    initialised = distributed.is_available() and distributed.is_initialized()
    return 1.0 / distributed.get_world_size() if initialised else 1.0
