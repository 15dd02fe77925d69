"""`swath machine ...`: a whole machine from one YAML.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli.help import example

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
