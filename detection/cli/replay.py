"""`swath replay`: a recording of the black box, through the detector again.

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
    model: Annotated[Path, typer.Argument(help="The .onnx that was recorded, or another.", metavar="MODEL")],
    recording: Annotated[Path, typer.Argument(help="A folder that the black box wrote.", metavar="RECORDING")],
    jsonl: Annotated[Path | None, typer.Option(metavar="F", help="Write one JSON line per image.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="F", help="Write an annotated MP4.")] = None,
    as_fast: Annotated[
        bool, typer.Option("--as-fast", help="Do not wait between images as the cameras did.")
    ] = False,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it is not live."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the network.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="F", help="Write the outcome as JSON.")] = None,
) -> None:
    """Run a recording again, image by image at its own pace, and compare the decisions. Needs no torch.

    Exits with 1 if a decision differs from the recorded one.
    """
    code = replay_command(
        model,
        recording,
        jsonl=jsonl,
        video=video,
        as_fast=as_fast,
        provider=provider,
        threads=threads,
        json_summary=summary,
    )
    raise typer.Exit(code)


def replay_command(
    model: Path,
    recording: Path,
    *,
    jsonl: Path | None = None,
    video: Path | None = None,
    as_fast: bool = False,
    provider: str | None = None,
    threads: int | None = None,
    json_summary: Path | None = None,
) -> int:
    """Run a recording through the detector again and say where its decisions differ from the recorded ones.

    Args:
        model: the deploy graph; the one that was recorded, or another that is to be held against it.
        recording: a folder that a black box wrote.
        jsonl: gets one JSON line per image.
        video: gets the annotated video; of a recording of one camera only.
        as_fast: do not wait between images as the cameras did.
        provider: as `Detector` takes it.
        threads: within one operator; None leaves it to the backend.
        json_summary: gets the outcome as JSON.

    Returns:
        0 where all decisions are the same, 1 where one differs or an image is missing.

    Raises:
        SwathError: model or recording cannot be read, or an output cannot be written.

    """
    from rich.console import Console

    from detection.runtime.blackbox.recorded_source import open_recording
    from detection.runtime.blackbox.recording import read_recording
    from detection.runtime.blackbox.replay import Comparison
    from detection.runtime.detector import Detector
    from detection.runtime.errors import OutputError
    from detection.runtime.files import write_whole
    from detection.runtime.outputs.annotated_video import VideoOutput
    from detection.runtime.outputs.jsonl import JsonlOutput
    from detection.runtime.parity.verify import file_digest
    from detection.runtime.signals import stopped_by_signals
    from detection.runtime.streaming.pipeline import run_stream

    recorded = read_recording(recording)
    console = Console(stderr=True)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
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
        summary = run_stream(detector, sources, outputs, stop=stop, slicers=recorded.slicers)
    same_model = {frame.model_sha256 for frame in recorded.frames} == {file_digest(model)}
    _print(console, recorded, comparison, same_model=same_model, failures=summary.failures)
    if json_summary is not None:
        outcome = _outcome(recorded, comparison, same_model, summary.to_json())
        write_whole(json_summary, json.dumps(outcome, indent=2) + "\n")
    return 0 if comparison.same and not summary.failures else 1


def _take_thresholds(detector: Detector, recorded: Recording, model: Path) -> None:
    """Those in force when it was recorded; where they were changed meanwhile the lowest, per class.

    Raises:
        ModelFileError: the model has other classes than the recording.

    """
    import numpy as np

    from detection.runtime.errors import ModelFileError

    if detector.class_names != recorded.class_names:
        then = ", ".join(recorded.class_names)
        raise ModelFileError(f"{model}: finds {', '.join(detector.class_names)}; the recording is of {then}")
    if {len(f.score_thresholds) for f in recorded.frames} != {len(recorded.class_names)}:
        raise ModelFileError(f"{recorded.folder}: its models find different classes; it cannot be replayed")
    detector.set_score_thresholds(np.min([f.score_thresholds for f in recorded.frames], axis=0).tolist())


def _print(
    console: Console, recorded: Recording, comparison: Comparison, *, same_model: bool, failures: tuple[str, ...]
) -> None:
    from rich.table import Table
    from rich.text import Text

    for failure in failures:
        console.print(f"error: {failure}", markup=False, highlight=False, soft_wrap=True)
    if not same_model:
        console.print(f"another model file than the recorded one ({recorded.model})", markup=False, highlight=False)
    if comparison.lossy:
        told = (
            f"{comparison.lossy:,} images were kept as JPEG, not the very pixels that were decided on: not compared"
        )
        console.print(told, highlight=False)
    if comparison.shown:
        table = Table(title="Decided otherwise", title_justify="left")
        table.add_column("camera")
        for name in ("frame", "boxes then", "boxes now", "only then", "only now"):
            table.add_column(name, justify="right")
        for one in comparison.shown:
            counts = (one.frame, one.recorded, one.replayed, one.only_recorded, one.only_replayed)
            table.add_row(Text(one.camera), *map(str, counts))
        console.print(table)
    console.print(_verdict(comparison), markup=False, highlight=False)


def _verdict(comparison: Comparison) -> str:
    if comparison.same:
        return f"{comparison.compared:,} images, {comparison.boxes:,} boxes: the same decisions as recorded"
    if not comparison.compared:
        return "no image could be compared"
    missing = f"; {comparison.missing:,} were not reached" if comparison.missing else ""
    return f"{comparison.differing:,} of {comparison.compared:,} images decided otherwise than recorded{missing}"


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
