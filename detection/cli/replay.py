"""`swath replay`: runs a recording of the black box again and compares the detections.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from rich.console import Console

    from detection.runtime.blackbox.recording import Recording
    from detection.runtime.blackbox.replay import Comparison
    from detection.runtime.detector import Detector
    from detection.runtime.outputs.contract import Output

EXAMPLE = example(
    "swath replay crop_weed.onnx season/blackbox/incidents/000007-20261126T140312Z-camera-lost-front",
    "swath replay newer.onnx season/blackbox/incidents/000007-20261126T140312Z-camera-lost-front --as-fast",
)


def replay(
    model: Annotated[
        Path, typer.Argument(help="The .onnx that was recorded, or another to compare with it.", metavar="MODEL")
    ],
    recording: Annotated[Path, typer.Argument(help="A folder that the black box wrote.", metavar="RECORDING")],
    jsonl: Annotated[Path | None, typer.Option(metavar="F", help="Write one JSON line per image.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="F", help="Write an annotated MP4.")] = None,
    as_fast: Annotated[
        bool, typer.Option("--as-fast", help="As fast as possible, not at the recorded pace.")
    ] = False,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it does not work here."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the network.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="F", help="Write the result as JSON.")] = None,
) -> None:
    """Run a recording again and compare the detections with the recorded ones. Needs no torch.

    Exits with 1 if the detections of an image differ, or an image is missing.
    """
    from rich.console import Console

    from detection.cli.stream_terminal import messages_on
    from detection.runtime.blackbox.recorded_source import open_recording
    from detection.runtime.blackbox.recording import read_recording
    from detection.runtime.blackbox.replay import Comparison
    from detection.runtime.detector import Detector
    from detection.runtime.errors import OutputError
    from detection.runtime.files import write_whole
    from detection.runtime.operations.redaction import Redaction
    from detection.runtime.outputs.annotated_video import VideoOutput
    from detection.runtime.outputs.jsonl import JsonlOutput
    from detection.runtime.parity.reference import file_digest
    from detection.runtime.signals import stopped_by_signals
    from detection.runtime.streaming.options import StreamOptions
    from detection.runtime.streaming.pipeline import run_stream

    recorded = read_recording(recording)
    console = Console(stderr=True)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        stack.enter_context(messages_on(console, Redaction()))
        detector = Detector(model, providers=None if provider is None else [provider], threads=threads)
        _take_thresholds(detector, recorded, model)
        detector.warm_up()
        sources = [stack.enter_context(source) for source in open_recording(recorded, as_fast=as_fast)]
        comparison = Comparison(recorded)
        outputs: list[Output] = [comparison]
        if video is not None:
            if len(sources) > 1:
                raise OutputError(f"{video}: the recording has {len(sources)} cameras; a video shows one")
            outputs.append(stack.enter_context(VideoOutput(video, detector.class_names, fps=sources[0].fps)))
        if jsonl is not None:
            outputs.append(stack.enter_context(JsonlOutput(jsonl)))
        result = run_stream(detector, sources, outputs, StreamOptions(slicers=recorded.slicers), stop=stop)
    same_model = {frame.model_sha256 for frame in recorded.frames} == {file_digest(model)}
    _print(console, recorded, comparison, same_model=same_model, failures=result.failures)
    if summary is not None:
        outcome = _outcome(recorded, comparison, same_model, result.to_json())
        write_whole(summary, json.dumps(outcome, indent=2) + "\n")
    raise typer.Exit(0 if comparison.same and not result.failures else 1)


def _take_thresholds(detector: Detector, recorded: Recording, model: Path) -> None:
    """Set the thresholds of the recording; where they were changed meanwhile, the lowest per class.

    Raises:
        ModelFileError: the model has other classes than the recording.

    """
    import numpy as np

    from detection.runtime.errors import ModelFileError

    if detector.class_names != recorded.class_names:
        then = ", ".join(recorded.class_names)
        raise ModelFileError(f"{model}: detects {', '.join(detector.class_names)}; the recording is of {then}")
    if {len(f.score_thresholds) for f in recorded.frames} != {len(recorded.class_names)}:
        raise ModelFileError(f"{recorded.folder}: its models detect different classes; it cannot be replayed")
    detector.set_score_thresholds(np.min([f.score_thresholds for f in recorded.frames], axis=0).tolist())


def _print(
    console: Console, recorded: Recording, comparison: Comparison, *, same_model: bool, failures: tuple[str, ...]
) -> None:
    from rich.table import Table
    from rich.text import Text

    from detection.runtime.errors import one_line

    lines = [f"error: {failure}" for failure in failures]
    if not same_model:
        lines.append(f"another model file than the recorded one ({recorded.model})")
    if comparison.lossy:
        lines.append(f"{comparison.lossy:,} images were recorded as JPEG, not as the original pixels: not compared")
    for line in map(one_line, lines):  # names in a recording may hold escape codes
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if comparison.shown:
        table = Table(title="Different detections", title_justify="left")
        table.add_column("camera")
        for name in ("frame", "boxes then", "boxes now", "only then", "only now"):
            table.add_column(name, justify="right")
        for one in comparison.shown:
            counts = (one.frame, one.recorded, one.replayed, one.only_recorded, one.only_replayed)
            table.add_row(Text(one_line(one.camera)), *map(str, counts))
        console.print(table)
    console.print(_result_line(comparison), markup=False, highlight=False)


def _result_line(comparison: Comparison) -> str:
    if comparison.same:
        return f"{comparison.compared:,} images, {comparison.boxes:,} boxes: the same detections as recorded"
    if not comparison.compared:
        return "no image could be compared"
    missing = f"; {comparison.missing:,} were not reached" if comparison.missing else ""
    return f"{comparison.differing:,} of {comparison.compared:,} images have other detections than recorded{missing}"


def _outcome(recorded: Recording, comparison: Comparison, same_model: bool, stream: dict[str, Any]) -> dict[str, Any]:
    return {
        "recording": str(recorded.folder),
        "same": comparison.same,
        "images": comparison.compared,
        "boxes": comparison.boxes,
        "differing": comparison.differing,
        "missing": comparison.missing,
        "same_model_file": same_model,
        "lossy": comparison.lossy,
        "first_differences": [vars(one) for one in comparison.shown],
        "stream": stream,
    }
