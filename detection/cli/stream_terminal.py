"""What a running machine shows in a terminal: its progress, its events, and what goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from detection.runtime.cameras.source import Source
from detection.runtime.detections import Detections, Frame
from detection.runtime.events import CameraStatus, Event
from detection.runtime.operations.redaction import RedactedFormatter, Redaction
from detection.runtime.outputs.contract import Record

GRAVE = frozenset({"lost", "stale", "behind", "refused"})
"""What the terminal shows as a warning."""


@contextmanager
def progress(
    console: Console, sources: Sequence[Source], max_frames: int | None
) -> Iterator[tuple[Callable[[Frame, Detections, Record], None], Callable[[], str]]]:
    """A bar on stderr, without an end where a source is live; and how the machine is, in a line."""
    lengths = [s.length for s in sources]
    total = None if None in lengths else sum(n for n in lengths if n is not None)
    if max_frames is not None:
        total = max_frames if total is None else min(total, max_frames)
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[last]}", markup=False),
    )
    frames, last = 0, "no image yet"

    def status() -> str:
        live = sum(source.status is CameraStatus.LIVE for source in sources)
        return f"{live} of {len(sources)} cameras live; {frames:,} images; {last}"

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task: Any = bar.add_task("stream", total=total, last="")

        def show(frame: Frame, detections: Detections, record: Record) -> None:
            nonlocal frames, last
            frames += 1
            last = f"{frame.camera}: {len(detections)} found, {record['age_ms']:.0f} ms old"
            bar.update(task, advance=1, last=last)

        yield show, status


def say(console: Console, event: Event, redaction: Redaction) -> None:
    """One unbroken line, whatever the terminal's width, so that it can be searched for."""
    kind = "warning" if event.status in GRAVE else "note"
    told = f"{kind}: {event.kind} {event.subject}: {event.status}" + (event.message and f", {event.message}")
    console.print(redaction(told), markup=False, highlight=False, soft_wrap=True)


class _LineHandler(logging.Handler):
    """One unbroken line per message."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {self.format(record)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def messages_on(console: Console, redaction: Redaction) -> Iterator[None]:
    """What the runtime logs from warnings on goes to stderr, above the bar."""
    logger, handler = logging.getLogger("detection.runtime"), _LineHandler(console)
    handler.setFormatter(RedactedFormatter(redaction))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
