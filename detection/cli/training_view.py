"""A running training: as a small table in a terminal, as one line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from detection.training.throughput import Throughput
from detection.training.watcher import Step

_KEPT = 0.9  # of a loss's smoothed value at each step
_BAR_WIDTH = 30


class TrainingView:
    """The state of a running training.

    Args:
        clock: seconds, never going back.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None
        self._first_progress = 0.0
        self._at = Step(
            number=0,
            steps=0,
            progress=0.0,
            losses={},
            learning_rate=0.0,
            epoch=0.0,
            epochs=0.0,
            throughput=Throughput(),
        )
        self._sums: dict[str, float] = {}
        self._weight = 0.0
        self._last: str = ""
        self._best: str = ""

    def step(self, taken: Step) -> None:
        """Receive a step."""
        if self._began is None:
            # the first step's own time is not known; counting from its end leaves no start-up in the time left
            self._began, self._first_progress = self._clock(), taken.progress
        self._at = taken
        self._weight = _KEPT * self._weight + 1 - _KEPT
        for name, value in taken.losses.items():
            self._sums[name] = _KEPT * self._sums.get(name, 0.0) + (1 - _KEPT) * value

    def validated(
        self, *, epoch: float, metrics: Mapping[str, float], best: bool, per_class: Mapping[str, float]
    ) -> None:
        """Receive a validation, with the arguments of `Watcher.validated`."""
        self._last = f"epoch {epoch:.1f}: {in_words(metrics, per_class)}"
        if best:
            self._best = f"AP {metrics['AP']:.3f} at epoch {epoch:.1f}"

    @property
    def progress(self) -> float:
        """Of the run, 0 to 1."""
        return self._at.progress

    @property
    def reached(self) -> int:
        """Number of the last step; 0 before the first."""
        return self._at.number

    @property
    def losses(self) -> dict[str, float]:
        """Each loss by its short name, smoothed over about the last ten steps."""
        return {_short(name): value / self._weight for name, value in self._sums.items()}

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to the end, validations included; None before the second step."""
        if self._began is None or self.progress <= self._first_progress:
            return None
        return (self._clock() - self._began) * (1 - self.progress) / (self.progress - self._first_progress)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first step."""
        return 0.0 if self._began is None else self._clock() - self._began

    def table(self) -> Table:
        """A table for a terminal; long values continue on the next line where it is narrow."""
        table = Table.grid(padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(100, 100 * self.progress, width=_BAR_WIDTH), f"{self.progress:.0%}")
        table.add_row("training", bar)
        at = self._at
        table.add_row("step", f"{at.number} of {at.steps}, epoch {at.epoch:.1f} of {at.epochs:g}")
        left = "" if self.left_s is None else f", [bold]{duration(self.left_s)}[/bold] left"
        table.add_row("time", Text.from_markup(f"{duration(self.elapsed_s)} elapsed{left}"))
        parts = self.losses
        loss = Text(f"{sum(parts.values()):.3f}", style="bold")
        loss.append("".join(f"  {name} {value:.3f}" for name, value in parts.items()), style="not bold")
        table.add_row("loss", loss)
        table.add_row("LR", f"{self._at.learning_rate:.1e}")
        table.add_row("speed", self._speed())
        if self._at.throughput.memory():
            table.add_row("memory", self._at.throughput.memory())
        if self._last:
            table.add_row("last", Text(self._last))
        if self._best:
            table.add_row("best", Text(self._best, style="bold"))
        return table

    def line(self) -> str:
        """A line for a log."""
        left = "" if self.left_s is None else f", {duration(self.left_s)} left"
        memory = f", {self._at.throughput.memory()}" if self._at.throughput.memory() else ""
        return (
            f"step {self._at.number} of {self._at.steps} ({self.progress:.0%}{left}): "
            f"loss {sum(self.losses.values()):.3f}, LR {self._at.learning_rate:.1e}, {self._speed()}{memory}"
        )

    def summary(self) -> str:
        """A line for the end of the training."""
        best = f"; best {self._best}" if self._best else ""
        return f"{self._at.number} steps, {self._at.epoch:.1f} epochs in {duration(self.elapsed_s)}{best}"

    def _speed(self) -> str:
        speed = self._at.throughput
        return f"{speed.images_per_s:.1f} images/s, {speed.waiting:.0%} of the time waiting for data"


def in_words(metrics: Mapping[str, float], per_class: Mapping[str, float]) -> str:
    """AP and AP50 of a validation, and the class with the lowest AP of those that occur."""
    if metrics["AP"] < 0:
        return "nothing to find in the validation images, so AP is undefined"
    words = f"AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}"
    there = {name: value for name, value in per_class.items() if value >= 0}
    if len(there) > 1:
        worst = min(there, key=there.__getitem__)
        words += f", worst {worst} {there[worst]:.3f}"
    return words


def duration(seconds: float) -> str:
    """12:03 or 1:02:03, rounded up, so that it is 0:00 only at the end."""
    whole = int(-(-seconds // 1))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(name: str) -> str:
    """The name of a torchvision loss without the common prefix, in words."""
    return name.removeprefix("loss_").replace("bbox_ctrness", "centerness").replace("bbox_", "box_").replace("_", " ")
