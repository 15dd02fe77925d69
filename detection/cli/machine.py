"""`swath machine ...` and `swath replay`: a whole machine from one YAML, and its black box's recordings again.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli.data import example

app = typer.Typer(
    name="machine",
    help="A whole machine in one YAML: an example, its check, its systemd unit.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Yaml = Annotated[Path, typer.Argument(help="The machine's YAML.", metavar="F.yaml")]


@app.command(name="example", epilog=example("swath machine example > machine.yaml"))
def show_example() -> None:
    """Print the YAML of a whole machine, to be changed."""
    from detection.runtime.operations.machine_file import example_machine

    typer.echo(example_machine(), nl=False)


@app.command(epilog=example("swath machine check machine.yaml --cameras"))
def check(
    path: Yaml,
    cameras: Annotated[bool, typer.Option("--cameras", help="Open each camera and take an image too.")] = False,
) -> None:
    """Say what is wrong with a machine, without starting it: keys, model, files, ports, packages, cameras."""
    from detection.cli.machine_check import machine_check_command

    raise typer.Exit(machine_check_command(path, cameras=cameras))


@app.command(epilog=example("swath machine unit machine.yaml > /etc/systemd/system/swath-sprayer-7.service"))
def unit(
    path: Yaml,
    user: Annotated[str, typer.Option(help="Under whose name it runs.")] = "swath",
    watchdog_s: Annotated[int, typer.Option(min=2, help="Restarted after so many seconds of standstill.")] = 10,
) -> None:
    """Print a systemd unit: started at boot, restarted whatever happens, watched, and allowed little else."""
    from detection.cli.machine_check import machine_unit_command

    raise typer.Exit(machine_unit_command(path, user=user, watchdog_s=watchdog_s))


REPLAY_EXAMPLE = example(
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
    from detection.cli.replay import replay_command

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
