"""`swath bench`.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from rich.console import Console

    from detection.runtime.bench.safe_speed import Sprayer

EXAMPLE = example(
    "swath bench crop_weed.onnx --source drive.mp4 --json bench.json",
    "swath bench fp32.onnx int8.onnx --provider cpu --provider openvino",
)


def bench(
    models: Annotated[
        list[Path], typer.Argument(help="What swath export wrote; several are timed in turns.", metavar="MODEL...")
    ],
    source: Annotated[
        str | None,
        typer.Option(metavar="VIDEO", help="A video or images to detect in; made-up images if left out."),
    ] = None,
    provider: Annotated[
        list[str], typer.Option(help="cpu, openvino, cuda, ...; repeat it to compare. An error if it is not live.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    threads: Annotated[list[int], typer.Option(min=1, help="Threads of the network; repeat it to compare.")] = [],  # noqa: B006
    runs: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 200,
    seconds: Annotated[float, typer.Option(min=0, help="Begin no turn after so many seconds.")] = 120,
    cold_starts: Annotated[int, typer.Option(min=0, help="Processes started afresh, of each.")] = 3,
    camera_ahead_m: Annotated[float, typer.Option(help="From the view's foremost line to the nozzle.")] = 0.30,
    pulse_m: Annotated[float, typer.Option(help="Ground that one decision covers.")] = 0.10,
    valve_ms: Annotated[float, typer.Option(help="From the decision to the drop on the ground.")] = 15,
    exposure_ms: Annotated[float, typer.Option(help="Of the camera.")] = 0,
    fps: Annotated[
        float | None, typer.Option(help="Of the camera; as many as the detector asks for if left out.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write everything as JSON.")] = None,
) -> None:
    """Measure a model file here: start, every stage, batches, memory, and how fast a sprayer may drive with it.

    Needs no torch. Ctrl-C shows what was measured so far.
    """
    from detection.runtime.bench.safe_speed import Sprayer

    try:
        sprayer = Sprayer(camera_ahead_m, pulse_m, valve_ms, exposure_ms, fps)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="swath bench") from None
    code = bench_command(
        models,
        source=source,
        providers=provider,
        threads=threads,
        runs=runs,
        seconds=seconds,
        cold_starts=cold_starts,
        sprayer=sprayer,
        json_=json_,
    )
    raise typer.Exit(code)


def bench_command(
    models: Sequence[Path],
    *,
    source: str | None = None,
    providers: Sequence[str] = (),
    threads: Sequence[int] = (),
    runs: int = 200,
    seconds: float = 120.0,
    cold_starts: int = 3,
    sprayer: Sprayer | None = None,
    json_: Path | None = None,
) -> int:
    """Measure, print the table, write the JSON.

    Models and source are opened before anything is measured. SIGINT (Ctrl-C) and SIGTERM end it after the call at
    work, and what was measured is shown; a second one ends it at once.

    Args:
        models: deploy graphs, one or more.
        source: a video, an image or a folder of images; None: images made up at each input's own size.
        providers: every model runs on each of them; none is the CPU.
        threads: and with each of these numbers; none is the backend's own choice.
        runs: turns.
        seconds: no turn begins after these.
        cold_starts: processes of each contestant.
        sprayer: the machine; None is the default one.
        json_: gets the measurement; replaced whole, or left as it was.

    Returns:
        0.

    Raises:
        SwathError: a model or the source cannot be opened, or the JSON cannot be written.
        KeyboardInterrupt: it was stopped before one turn was through.

    """
    from rich.console import Console

    from detection.cli.bench_tables import bench_tables
    from detection.runtime.bench import bench
    from detection.runtime.bench.images import Recording
    from detection.runtime.bench.report import to_json
    from detection.runtime.bench.safe_speed import Sprayer
    from detection.runtime.files import check_writable, write_whole
    from detection.runtime.signals import stopped_by_signals

    sprayer = sprayer or Sprayer()
    if json_ is not None:
        check_writable(json_, inputs=models)
    console = Console(stderr=True)
    with ExitStack() as stack:
        stop = stack.enter_context(stopped_by_signals())
        entered = bench.contestants(models, providers, threads)
        recording = stack.enter_context(Recording(source)) if source is not None else None
        with _progress(console) as told:
            measured = bench.measure(
                entered,
                recording=recording,
                runs=runs,
                seconds=seconds,
                cold_starts=cold_starts,
                stop=stop,
                progress=told,
            )
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
    return 0


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr that leaves nothing behind."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield told
