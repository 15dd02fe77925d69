"""`swath doctor`.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Annotated

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from detection.runtime.operations.finding import Finding

EXAMPLE = example("swath doctor", "swath doctor --provider cuda")


def doctor(
    provider: Annotated[
        list[str], typer.Option(help="Require this provider: cuda, tensorrt, openvino, ...; may be repeated.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    json_: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Show what works on this machine: wheels, OpenCV, execution providers, GPUs. Needs no torch.

    Exits with 1 where wheels overwrite one another, or a required provider does not run a graph.
    """
    from rich.console import Console

    from detection.cli.findings import findings_table
    from detection.runtime.operations.installation import examine, to_json

    findings = [*examine(provider), _torch()]
    if json_:
        typer.echo(json.dumps(to_json(findings), indent=2))
    else:
        Console().print(findings_table(findings))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _torch() -> Finding:
    from detection.runtime.operations.finding import Finding

    if importlib.util.find_spec("torch") is None:
        return Finding("torch", "note", 'not installed: a robot needs none; pip install "swath[train]" to train')
    try:
        import torch
    except Exception as error:  # a broken installation raises whatever it likes
        from detection.runtime.errors import reason

        return Finding("torch", "wrong", f"installed, but does not load ({reason(error)})")
    if torch.cuda.is_available():
        return Finding("torch", "ok", f"{torch.__version__}, CUDA live on {torch.cuda.get_device_name()}")
    return Finding("torch", "note", f"{torch.__version__}, on the CPU alone")
