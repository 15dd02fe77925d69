"""A running machine in a terminal: its progress, its events, what goes wrong, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from detection.cli.stream_tables import summary_tables
from detection.runtime.cameras.source import Source
from detection.runtime.closing import Closing
from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError, one_line
from detection.runtime.events import Event
from detection.runtime.files import write_whole
from detection.runtime.operations.machine import Machine, Outputs
from detection.runtime.operations.redaction import RedactedFormatter, Redaction
from detection.runtime.operations.run import MachineObserver, run_machine
from detection.runtime.outputs.contract import Record
from detection.runtime.outputs.dashboard import DashboardSettings


def run_in_terminal(
    machine: Machine,
    *,
    redaction: Redaction | None = None,
    max_frames: int | None = None,
    summary: Path | None = None,
) -> int:
    """Run a machine until its cameras end or the user stops it, and print what came of it on stderr.

    Args:
        machine: what is to run.
        redaction: keeps secrets out of messages.
        max_frames: stop after so many images, over all cameras; None for no limit.
        summary: gets the result as JSON.

    Returns:
        0 where all went well (being stopped by the user is well), 1 where a source failed on the way, or the model
        gave no answer for an image.

    Raises:
        SwathError: as `run_machine`.

    """
    redaction = redaction or Redaction()
    console = Console(stderr=True)
    with messages_on(console, redaction), _View(console, redaction, max_frames, machine.outputs) as view:
        result = run_machine(machine, redaction=redaction, max_frames=max_frames, summary=summary, observer=view)
    console.print(summary_tables(result.summary, result.outputs_dropped))
    return 1 if result.summary.failures or result.summary.faulty else 0


class _View(Closing, MachineObserver):
    """A bar without an end where a source is live; and a line for each event that a person should see."""

    def __init__(
        self, console: Console, redaction: Redaction, max_frames: int | None, outputs: Outputs | None = None
    ) -> None:
        self._console = console
        self._outputs = outputs
        self._private: list[Path] = []
        self._redaction = redaction
        self._max_frames = max_frames
        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[last]}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("stream", total=None, last="")

    def opened(self, sources: Sequence[Source], urls: Mapping[str, str]) -> None:
        """Print the addresses, and begin the bar."""
        for name, url in urls.items():
            shown, secret, _ = url.partition("?")
            if secret and not self._console.is_terminal:  # a journal, which others read
                url = f"{shown} ({self._where_token(name, url)})"
            self._console.print(f"{name}: {url}", markup=False, highlight=False, soft_wrap=True)
        lengths = [source.length for source in sources]
        total = None if None in lengths else sum(n for n in lengths if n is not None)
        if self._max_frames is not None:
            total = self._max_frames if total is None else min(total, self._max_frames)
        self._bar.update(self._task, total=total)
        self._bar.start()

    def _where_token(self, name: str, url: str) -> str:
        """Where the token of an address is to be found; one that was made up is written for the owner alone."""
        settings = getattr(self._outputs, name, None)
        if not isinstance(settings, DashboardSettings) or settings.token is not None:
            return "with its token, which is not written into logs"
        path = settings.record_into / f"{name}-address.txt"
        try:
            write_whole(path, url + "\n", private=True)
        except OutputError as error:
            return f"its token is shown nowhere: {error}; set outputs.{name}.token"
        self._private.append(path)
        return f"the address with its token is in {path}, which only this user can read"

    def event(self, event: Event) -> None:
        """One unbroken line, whatever the terminal's width, so that it can be searched for."""
        if not (self._console.is_terminal or event.is_warning or event.kind != "camera"):
            return
        kind = "warning" if event.is_warning else "note"
        line = f"{kind}: {event.kind} {event.subject}: {event.status}" + (event.message and f", {event.message}")
        self._console.print(self._redaction(line), markup=False, highlight=False, soft_wrap=True)

    def frame(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Move the bar."""
        last = f"{frame.camera}: {len(detections)} detections, {record['age_ms']:.0f} ms old"
        self._bar.update(self._task, advance=1, last=last)

    def close(self) -> None:
        """Take the bar away, and addresses that are no longer of use."""
        self._bar.stop()
        for path in self._private:
            path.unlink(missing_ok=True)


class _LineHandler(logging.Handler):
    """One unbroken line per message."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        line = f"{record.levelname.lower()}: {text if record.exc_info else one_line(text)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def messages_on(console: Console, redaction: Redaction) -> Iterator[None]:
    """While it lasts, what the runtime logs from warnings on goes to stderr, above the bar."""
    logger, handler = logging.getLogger("detection.runtime"), _LineHandler(console)
    handler.setFormatter(RedactedFormatter(redaction))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
