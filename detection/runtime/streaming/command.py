"""What `swath stream` does, without its command line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import open_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import OutputError, SourceError
from detection.runtime.outputs.contract import Output, Record, per_camera
from detection.runtime.outputs.jsonl import JsonlOutput
from detection.runtime.outputs.video import VideoOutput
from detection.runtime.signals import stopped_by_signals
from detection.runtime.streaming.pipeline import run_stream
from detection.runtime.streaming.report import render
from detection.runtime.streaming.summary import StreamSummary


def stream_command(
    model: Path,
    sources: Sequence[str],
    *,
    jsonl: Path | None = None,
    video: Path | None = None,
    score: float | None = None,
    provider: str | None = None,
    threads: int | None = None,
    max_frames: int | None = None,
    json_summary: Path | None = None,
) -> int:
    """Detect on all sources until they end or the user stops it; then print the latency table.

    Model and sources are opened before any output: where one of them fails, nothing is written.
    SIGINT (Ctrl-C) and SIGTERM end it after the frame at work, with whole files; a second one at once.

    Args:
        model: the deploy graph.
        sources: what `open_source` takes, one or more.
        jsonl: gets one JSON line per frame, of all sources.
        video: gets the annotated video; of several sources each gets its own, `video` with
            `-<camera>` before the suffix.
        score: threshold for all classes, 0 to 1; None takes the model's own per class.
        provider: as `Detector` takes it ("openvino", "cuda", ...); None is onnxruntime on the CPU.
        threads: within one operator; None leaves it to the backend.
        max_frames: stop after so many, over all sources; None for no limit.
        json_summary: gets the summary as JSON.

    Returns:
        0 where all went well (being stopped by the user is well), 1 where a source failed on the way.

    Raises:
        SwathError: model, source or output cannot be opened, or an output cannot be written.

    """
    if not sources:
        raise SourceError("no source given: name a camera, URL, video or picture folder")
    _refuse_to_overwrite([model, *map(Path, sources)], [jsonl, video, json_summary])
    console = Console(stderr=True)
    with ExitStack() as stack:
        stack.enter_context(_messages_on(console))
        stop = stack.enter_context(stopped_by_signals())
        detector = Detector(
            model,
            providers=None if provider is None else [provider],
            threads=threads,
            score_thresholds=score,
        )
        detector.warm_up()  # before cameras open: what they deliver meanwhile would count as dropped
        opened = [stack.enter_context(source) for source in open_sources(sources)]
        outputs = _open_outputs(stack, jsonl, video, opened, detector.class_names)
        with _progress(console, opened, max_frames) as (bar, task):

            def show(frame: Frame, detections: Detections, record: Record) -> None:
                age = f"{frame.camera}: {len(detections)} found, {record['age_ms']:.0f} ms old"
                bar.update(task, advance=1, last=age)

            summary = run_stream(detector, opened, outputs, stop=stop, max_frames=max_frames, on_progress=show)
        stack.close()  # files are whole before we say that we are done
    console.print(render(summary))
    if json_summary is not None:
        _write_summary(json_summary, summary)
    return 1 if summary.failures else 0


def _open_outputs(
    stack: ExitStack,
    jsonl: Path | None,
    video: Path | None,
    sources: Sequence[Source],
    class_names: Sequence[str],
) -> list[Output]:
    videos: dict[Path, Source] = {}
    if video is not None:
        for source in sources:
            path = video if len(sources) == 1 else per_camera(video, source.camera)
            if path in videos:
                raise OutputError(f"{path}: two sources would write it; run them one by one")
            videos[path] = source
    outputs: list[Output] = [
        stack.enter_context(VideoOutput(path, class_names, fps=source.fps, camera=source.camera))
        for path, source in videos.items()
    ]
    # Last, because it replaces what stood there at once.
    if jsonl is not None:
        outputs.append(stack.enter_context(JsonlOutput(jsonl)))
    return outputs


def _refuse_to_overwrite(inputs: Sequence[Path], outputs: Sequence[Path | None]) -> None:
    """A video that is read must not be replaced by its annotated copy.

    Raises:
        OutputError: an output is one of the inputs, or two outputs are one file.

    """
    taken = {path.resolve() for path in inputs}
    for output in outputs:
        if output is None:
            continue
        if output.resolve() in taken:
            raise OutputError(f"{output}: would overwrite what is read or written under that name already")
        taken.add(output.resolve())


def _write_summary(path: Path, summary: StreamSummary) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None


@contextmanager
def _progress(console: Console, sources: Sequence[Source], max_frames: int | None) -> Iterator[tuple[Progress, Any]]:
    """A bar on stderr; without an end where a source is live."""
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
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task("stream", total=total, last="")


class _LineHandler(logging.Handler):
    """One unbroken line per message, whatever the terminal's width, so that it can be searched for."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _messages_on(console: Console) -> Iterator[None]:
    """Warnings and errors of the runtime as lines above the progress bar."""
    handler = _LineHandler(console)
    logger = logging.getLogger("detection.runtime")
    propagated = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False  # or they would be said twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
