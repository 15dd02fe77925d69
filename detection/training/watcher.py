"""What a training reports while it runs, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from detection.runtime.errors import SwathError
from detection.training.throughput import Throughput


class TrainingError(SwathError):
    """A training that cannot start or continue."""


class NotFinite(TrainingError):
    """A loss or gradient that is not finite; the weights are as they were before the step."""


@dataclass(frozen=True)
class Step:
    """An optimizer step that was taken, and the state of the run after it.

    Attributes:
        number: counted from 1.
        steps: number of steps of the whole run.
        progress: of the run, by steps or by the clock, whichever is further; 0 to 1.
        losses: each loss by name.
        learning_rate: the highest of all parameter groups.
        epoch: passes over the training images so far.
        epochs: of the whole run.
        throughput: speed and memory over the last steps.

    """

    number: int
    steps: int
    progress: float
    losses: Mapping[str, float]
    learning_rate: float
    epoch: float
    epochs: float
    throughput: Throughput


class Watcher(Protocol):
    """Receives the events of a training: a terminal, a notebook, a dashboard.

    Example:
        >>> class Printing(NullWatcher):
        ...     def step(self, taken: Step) -> None:
        ...         print(taken.number, sum(taken.losses.values()))

    """

    def note(self, line: str) -> None:
        """A line for the user."""

    def progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` of a task such as "checking images"."""

    def step(self, taken: Step) -> None:
        """An optimizer step was taken."""

    def validated(
        self, *, epoch: float, metrics: Mapping[str, float], best: bool, per_class: Mapping[str, float]
    ) -> None:
        """A validation is done.

        Args:
            epoch: passes over the training images so far.
            metrics: COCO's 12 numbers by name, -1 where undefined.
            best: whether its AP is the best so far.
            per_class: AP of each class by name, -1 where there is no object of it.

        """


class NullWatcher:
    """A `Watcher` that does nothing. All processes of a training but the first have one."""

    def note(self, line: str) -> None:
        """Do nothing."""

    def progress(self, task: str, done: int, total: int) -> None:
        """Do nothing."""

    def step(self, taken: Step) -> None:
        """Do nothing."""

    def validated(self, **_: Any) -> None:
        """Do nothing."""
