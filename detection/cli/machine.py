"""`swath machine ...`: a whole machine from one YAML.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from detection.cli.help import example

app = typer.Typer(
    name="machine",
    help="Run a whole machine from one YAML: an example, its check, its systemd unit.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Yaml = Annotated[Path, typer.Argument(help="The YAML of the machine.", metavar="F.yaml")]


@app.command(name="example", epilog=example("swath machine example > machine.yaml"))
def show_example() -> None:
    """Print an example of a machine's YAML, to start from."""
    from detection.runtime.operations.machine_file import example_machine

    typer.echo(example_machine(), nl=False)


@app.command(epilog=example("swath machine check machine.yaml --cameras"))
def check(
    path: Yaml,
    cameras: Annotated[bool, typer.Option("--cameras", help="Also open each camera and read an image.")] = False,
) -> None:
    """Check a machine without starting it: keys, model, files, ports, packages, cameras.

    Exits with 1 where something is wrong.
    """
    from rich.console import Console

    from detection.cli.findings import findings_table
    from detection.runtime.operations.machine_check import check_machine
    from detection.runtime.operations.machine_file import load_machine

    loaded = load_machine(path)
    findings = list(check_machine(loaded.machine, cameras=cameras))
    console = Console()
    console.print(findings_table(findings, title=f"{loaded.machine.name} ({path})", redaction=loaded.redaction))
    wrong = sum(finding.state == "wrong" for finding in findings)
    outcome = f"{wrong} of {len(findings)} parts need attention" if wrong else "nothing is wrong"
    console.print(outcome + ("" if cameras else "; cameras were not opened (--cameras does)"), highlight=False)
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog=example("swath machine unit machine.yaml > /etc/systemd/system/swath-sprayer-7.service"))
def unit(
    path: Yaml,
    user: Annotated[str, typer.Option(help="The account that it runs as.")] = "swath",
    watchdog_s: Annotated[int, typer.Option(min=2, help="Restart it after this many seconds without progress.")] = 10,
) -> None:
    """Print a systemd unit: starts at boot, restarts after any failure, watchdog, sandbox."""
    from detection.runtime.operations.machine_file import load_machine
    from detection.runtime.operations.systemd_unit import systemd_unit

    loaded = load_machine(path, fill_in=False)
    typer.echo(systemd_unit(loaded, command=_own_command(), user=user, watchdog_s=watchdog_s), nl=False)


def _own_command() -> list[str]:
    """How `swath` is called in this installation: the script beside this Python, or the module."""
    script = Path(sys.executable).with_name("swath")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "swath"]
