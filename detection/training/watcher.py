"""Who looks on while a training goes, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from detection.runtime.errors import SwathError
from detection.training.pace import Pace


class TrainingError(SwathError):
    """Training that cannot start or go on."""


class Watcher(Protocol):
    """Who looks on: the terminal, a notebook, nobody."""

    def note(self, line: str) -> None:
        """Something worth a line."""

    def progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` of a task such as "checking pictures"."""

    def step(
        self,
        *,
        step: int,
        steps: int,
        share: float,
        losses: Mapping[str, float],
        rate: float,
        epoch: float,
        epochs: float,
        pace: Pace,
    ) -> None:
        """After a step; `share` of the run is done, by steps or by the clock, whichever is further."""

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

    def step(self, **_: Any) -> None:
        """Nothing."""

    def validated(self, **_: Any) -> None:
        """Nothing."""


class NotFinite(TrainingError):
    """A loss or gradient that is not a number; the weights are as they were before the step."""
