"""What the training half shows in a terminal: progress bars, notes and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console
from rich.filesize import decimal
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
from rich.table import Column, Table
from rich.text import Text

from data.registry import PublicSet
from detection.coco_metrics import CocoMetrics


class _Amount(MofNCompleteColumn):
    """So many of how many; bytes in their units, with the rate at which they come."""

    def render(self, task: Task) -> Text:
        if not task.fields.get("in_bytes"):
            return super().render(task)
        total = "?" if task.total is None else decimal(int(task.total))
        rate = "" if task.speed is None else f" at {decimal(int(task.speed))}/s"
        return Text(f"{decimal(int(task.completed))} of {total}{rate}", style="progress.download")


class TerminalWatcher:
    """Shows a training or an evaluation as it goes: one bar per task, notes above them.

    Args:
        console: where to; standard error, so that standard output holds results only.

    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=24),
            _Amount(),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._smooth_loss: float | None = None

    def __enter__(self) -> TerminalWatcher:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)

    def progress(self, task: str, done: int, total: int) -> None:
        """Move the bar of `task`; it goes when it is full."""
        self._bar(task, done, total, "")

    def bytes_progress(self, task: str, done: int, total: int | None) -> None:
        """Move the bar of `task` as `progress` does, in bytes; None: nobody knows how many there will be."""
        self._bar(task, done, total, "", in_bytes=True)

    def step(self, *, step: int, steps: int, share: float, losses: Mapping[str, float], rate: float) -> None:
        """Move the training bar. Its length is the run's share, so that the time left is true under a budget."""
        loss = sum(losses.values())
        self._smooth_loss = loss if self._smooth_loss is None else 0.9 * self._smooth_loss + 0.1 * loss
        total = steps if share == 0 else max(step, round(step / share))
        self._bar("training", step, total, f"loss {self._smooth_loss:.3f}")

    def validated(self, *, epoch: float, metrics: Mapping[str, float], best: bool) -> None:
        """Print the validation's headline."""
        mark = "  best so far" if best else ""
        self.note(f"epoch {epoch:.1f}: AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}{mark}")

    def _bar(self, task: str, done: int, total: int | None, detail: str, *, in_bytes: bool = False) -> None:
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(
                task, total=total, completed=done, detail=detail, in_bytes=in_bytes
            )
        self._progress.update(self._tasks[task], completed=done, total=total, detail=detail)
        if total is not None and done >= total:
            self._progress.remove_task(self._tasks.pop(task))


def metrics_table(metrics: CocoMetrics, title: str) -> Table:
    """The headline and each class, as a table; a dash where a number is undefined."""

    def shown(value: float | None) -> str:
        return "-" if value is None or value < 0 else f"{value:.3f}"

    table = Table("", "AP", "AP50", "AP75", "AR100", "boxes", "best-F1 score", title=title, title_justify="left")
    for name, scored in metrics.per_class.items():
        numbers = (scored.AP, scored.AP50, scored.AP75, scored.AR100)
        table.add_row(name, *map(shown, numbers), str(scored.boxes), shown(scored.threshold))
    coco = metrics.coco
    boxes = sum(scored.boxes for scored in metrics.per_class.values())
    whole = (coco["AP"], coco["AP50"], coco["AP75"], coco["AR100"])
    table.add_row("all", *map(shown, whole), str(boxes), "", style="bold")
    return table


def public_sets_table(sets: Iterable[PublicSet]) -> Table:
    """The datasets that can be fetched by name."""
    table = Table(Column("name", no_wrap=True), "pictures", Column("licence", no_wrap=True), "size", "title")
    for one in sets:
        table.add_row(
            one.name, "?" if one.pictures is None else str(one.pictures), one.licence, one.size_text, one.title
        )
    return table
