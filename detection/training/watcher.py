"""Who looks on while a training goes, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from detection.runtime.errors import SwathError
from detection.training.throughput import Pace


class TrainingError(SwathError):
    """Training that cannot start or go on."""


@dataclass(frozen=True)
class Step:
    """A step that was taken, and where the run stands after it.

    Attributes:
        number: counted from 1.
        steps: of the whole run.
        share: of the run that is done, by steps or by the clock, whichever is further; 0 to 1.
        losses: each loss.
        rate: the learning rate.
        epoch: passes over the training images so far.
        epochs: of the whole run.
        pace: speed and memory of the last steps.

    """

    number: int
    steps: int
    share: float
    losses: Mapping[str, float]
    rate: float
    epoch: float
    epochs: float
    pace: Pace


class Watcher(Protocol):
    """Who looks on: the terminal, a notebook, nobody."""

    def note(self, line: str) -> None:
        """Something worth a line."""

    def progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` of a task such as "checking images"."""

    def step(self, taken: Step) -> None:
        """After a step."""

    def validated(
        self, *, epoch: float, metrics: Mapping[str, float], best: bool, per_class: Mapping[str, float]
    ) -> None:
        """After a validation; `per_class` is each class's AP, -1 where there is nothing to find."""


class Nobody:
    """A `Watcher` that looks away: further processes of a training have nothing to say that the first does not."""

    def note(self, line: str) -> None:
        """Nothing."""

    def progress(self, task: str, done: int, total: int) -> None:
        """Nothing."""

    def step(self, taken: Step) -> None:
        """Nothing."""

    def validated(self, **_: Any) -> None:
        """Nothing."""


class NotFinite(TrainingError):
    """A loss or gradient that is not a number; the weights are as they were before the step."""
