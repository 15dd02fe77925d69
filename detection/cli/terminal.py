"""What the training half shows in a terminal: progress bars, notes, a running training, tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from detection.cli.training_view import TrainingView, in_words
from detection.runtime.errors import one_line
from detection.training.watcher import Step

if TYPE_CHECKING:  # they import torch, for which the commands of `swath data` would wait seconds
    from detection.evaluation.coco_metrics import CocoMetrics
    from detection.evaluation.intervals import Difference, Interval
    from detection.evaluation.robustness import Robustness


class _Amount(MofNCompleteColumn):
    """The number done and the total; bytes in suitable units, with their rate."""

    def render(self, task: Task) -> Text:
        if not task.fields.get("in_bytes"):
            return super().render(task)
        total = "?" if task.total is None else decimal(int(task.total))
        rate = "" if task.speed is None else f" at {decimal(int(task.speed))}/s"
        return Text(f"{decimal(int(task.completed))} of {total}{rate}", style="progress.download")


class TerminalWatcher:
    """Shows a running training or evaluation: a table or one bar per task, with notes above.

    Where the console is no terminal nothing moves: notes, and a plain line from time to time.

    Args:
        console: where to; standard error, so that standard output holds results only.
        line_every_s: seconds between two lines of a training or task that is not shown live.

    """

    def __init__(self, console: Console | None = None, *, line_every_s: float = 30.0) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=24),
            _Amount(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._training: TrainingView | None = None
        self._live = Live(
            console=self._console,
            get_renderable=lambda: Group(*(() if self._training is None else (self._training.table(),)), self._bars),
            transient=True,
        )
        self._is_live = self._console.is_terminal
        self._line_every_s, self._lined = line_every_s, time.monotonic()

    def __enter__(self) -> TerminalWatcher:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._training is not None:
            self.note(self._training.summary())

    def note(self, line: str) -> None:
        """Print a line above what moves."""
        shown = "\n".join(map(one_line, line.split("\n")))  # names of files and classes may hold escape codes
        self._console.print(shown, style="dim", markup=False, highlight=False, soft_wrap=True)

    def progress(self, task: str, done: int, total: int) -> None:
        """Move the bar of `task`, which is removed when it is full."""
        self._bar(task, done, total)

    def bytes_progress(self, task: str, done: int, total: int | None) -> None:
        """Move the bar of `task` as `progress` does, in bytes; `total` None: not known."""
        self._bar(task, done, total, in_bytes=True)

    def step(self, taken: Step) -> None:
        """Show a step of the training. The bar is the run's progress, under a budget of minutes too."""
        if self._training is not None and taken.number <= self._training.reached:  # synthetic pre-training is over
            self.note(self._training.summary())
            self._training = None
        first = self._training is None
        view = self._training = self._training or TrainingView()
        view.step(taken)
        if not self._is_live:
            self._line(view.line(), now=first)

    def validated(
        self, *, epoch: float, metrics: Mapping[str, float], best: bool, per_class: Mapping[str, float]
    ) -> None:
        """Print the validation's headline."""
        if self._training is not None:
            self._training.validated(epoch=epoch, metrics=metrics, best=best, per_class=per_class)
        mark = "  best so far" if best else ""
        self.note(f"epoch {epoch:.1f}: {in_words(metrics, per_class)}{mark}")

    def _bar(self, task: str, done: int, total: int | None, *, in_bytes: bool = False) -> None:
        if not self._is_live:
            shown, of = (decimal(done), decimal(total or 0)) if in_bytes else (str(done), str(total))
            self._line(f"{task}: {shown}" if total is None else f"{task}: {shown} of {of}")
            return
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, completed=done, in_bytes=in_bytes)
        self._bars.update(self._tasks[task], completed=done, total=total)
        if total is not None and done >= total:
            self._bars.remove_task(self._tasks.pop(task))

    def _line(self, text: str, *, now: bool = False) -> None:
        """A line where nothing is live, unless one was there a moment ago."""
        if now or time.monotonic() - self._lined >= self._line_every_s:
            self._lined = time.monotonic()
            self.note(text)


def _shown(value: float | None) -> str:
    """A metric; a dash where it is undefined."""
    return "-" if value is None or value < 0 else f"{value:.3f}"


def metrics_table(metrics: CocoMetrics, title: str) -> Table:
    """The headline and each class, as a table; a dash where a number is undefined."""
    table = Table("", "AP", "AP50", "AP75", "AR100", "boxes", "best-F1 score", title=title, title_justify="left")
    for name, scored in metrics.per_class.items():
        numbers = (scored.AP, scored.AP50, scored.AP75, scored.AR100)
        table.add_row(Text(one_line(name)), *map(_shown, numbers), str(scored.boxes), _shown(scored.threshold))
    coco = metrics.coco
    boxes = sum(scored.boxes for scored in metrics.per_class.values())
    whole = (coco["AP"], coco["AP50"], coco["AP75"], coco["AR100"])
    table.add_row("all", *map(_shown, whole), str(boxes), "", style="bold")
    return table


def intervals_line(found: Mapping[str, Interval], grouped_by: str, groups: int) -> str:
    """The headline metrics with their intervals, in one line."""
    parts = [f"{name} {i.value:.3f} ({i.low:.3f} to {i.high:.3f})" for name, i in found.items() if i.value >= 0]
    return f"95 % intervals, {groups} groups by {grouped_by}: {', '.join(parts)}" if parts else "no boxes to find"


def differences_table(changes: Mapping[str, Difference], models: Sequence[Path]) -> Table:
    """Differences of the second model from the first, with their significance."""
    table = Table("", "first", "second", "change", "95 % interval", "", title=f"{models[0]} against {models[1]}")
    for name, d in changes.items():
        if d.change is None:
            table.add_row(name, _shown(d.first), _shown(d.second), "-", "-", "undefined: no boxes")
            continue
        result = ("better" if d.change.value > 0 else "worse") if d.significant else "not significant"
        ends = f"{d.change.low:+.3f} to {d.change.high:+.3f}"
        table.add_row(name, f"{d.first:.3f}", f"{d.second:.3f}", f"{d.change.value:+.3f}", ends, result)
    return table


def robustness_table(found: Robustness) -> Table:
    """AP under each effect, at each strength."""
    from detection.evaluation.robustness import STRENGTHS

    title = "no share of AP is lost: it is undefined or 0 without effects"
    if found.worst is not None and found.mean_drop is not None:
        effect, strength = found.worst
        title = f"{found.mean_drop:.0%} of the AP is lost on average, the most under {effect} {strength:g}"
    table = Table("AP under", *(f"{s:g}" for s in STRENGTHS), title=title, title_justify="left")
    table.add_row("nothing", *(_shown(found.clean["AP"]) for _ in STRENGTHS))
    for name, at in found.effects.items():
        table.add_row(name, *(_shown(at[s]["AP"]) for s in STRENGTHS))
    return table
