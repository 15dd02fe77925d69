"""`swath bench`.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from rich.console import Console


EXAMPLE = example(
    "swath bench crop_weed.onnx --source drive.mp4 --json bench.json",
    "swath bench fp32.onnx int8.onnx --provider cpu --provider openvino",
)


def bench(
    models: Annotated[
        list[Path], typer.Argument(help="One .onnx or several, which are timed interleaved.", metavar="MODEL...")
    ],
    source: Annotated[
        str | None,
        typer.Option(metavar="VIDEO", help="A video or images to detect in; synthetic images if left out."),
    ] = None,
    provider: Annotated[
        list[str],
        typer.Option(help="cpu, openvino, cuda, ...; repeat to compare. An error if it does not work here."),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    threads: Annotated[list[int], typer.Option(min=1, help="Threads of the network; repeat to compare.")] = [],  # noqa: B006
    runs: Annotated[int, typer.Option(min=1, help="Rounds; each model runs once per round.")] = 200,
    seconds: Annotated[float, typer.Option(min=0, help="Start no further round after this time.")] = 120,
    cold_starts: Annotated[int, typer.Option(min=0, help="Starts of a fresh process to time, per model.")] = 3,
    camera_ahead_m: Annotated[
        float, typer.Option(help="Distance from the foremost visible line on the ground to the nozzle.")
    ] = 0.30,
    pulse_m: Annotated[float, typer.Option(help="Length of ground that one decision covers.")] = 0.10,
    valve_ms: Annotated[float, typer.Option(help="Delay from the decision to the drop on the ground.")] = 15,
    exposure_ms: Annotated[float, typer.Option(help="Exposure time of the camera.")] = 0,
    fps: Annotated[
        float | None, typer.Option(help="Frame rate of the camera; as fast as the detector if left out.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write everything as JSON.")] = None,
) -> None:
    """Measure latency, throughput, start and memory of a model here, and how fast a sprayer may drive with it.

    Needs no torch. Ctrl-C shows what was measured so far.
    """
    from rich.console import Console

    from detection.cli.bench_tables import bench_tables
    from detection.runtime.bench.bench import MeasureOptions, measure
    from detection.runtime.bench.contestant import contestants
    from detection.runtime.bench.images import Recording
    from detection.runtime.bench.report import to_json
    from detection.runtime.bench.safe_speed import Sprayer
    from detection.runtime.files import check_writable, write_whole
    from detection.runtime.signals import stopped_by_signals

    try:
        sprayer = Sprayer(camera_ahead_m, pulse_m, valve_ms, exposure_ms, fps)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="swath bench") from None
    if json_ is not None:
        check_writable(json_, inputs=models)
    options = MeasureOptions(runs, seconds, cold_starts)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        entered = contestants(models, provider, threads)
        recording = stack.enter_context(Recording(source)) if source is not None else None
        progress = stack.enter_context(_progress(Console(stderr=True)))
        measured = measure(entered, recording=recording, options=options, stop=stop, progress=progress)
    if not entered[0].runs:
        raise KeyboardInterrupt
    sizes = recording.sizes_hw if recording else {one.detector.metadata.input_size_hw for one in entered}
    images: dict[str, Any] = {
        "source": recording.name if recording else None,
        "sizes_hw": [list(size_hw) for size_hw in sorted(sizes)],
    }
    Console().print(bench_tables(measured, sprayer, images))
    if json_ is not None:
        write_whole(json_, json.dumps(to_json(measured, sprayer, images), indent=2, allow_nan=False) + "\n")


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr that leaves nothing behind."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def report(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        yield report
