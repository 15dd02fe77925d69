"""`swath train`, with `--dry-run`.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from detection.recipe.schema import Recipe

EXAMPLE = example(
    "swath train configs/crop_weed.yaml --out runs/crop_weed -s train.epochs=60",
    "swath train configs/crop_weed.yaml --dry-run",
)


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, one YAML.", metavar="RECIPE")],
    set_: Annotated[
        list[str], typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="RUN", help="The run folder; default: runs/ and the recipe's name."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the run's last.ckpt.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Train nothing: measure a few steps, estimate the run, draw its first batch."),
    ] = False,
) -> None:
    """Fine-tune a detector on labelled images.

    Leaves a run: config.yaml, metrics.csv, TensorBoard events, best.safetensors, last.ckpt.
    """
    if dry_run and resume:
        raise typer.BadParameter("give one of --resume and --dry-run", param_hint="swath train")
    from detection.recipe.reading import load_recipe

    resolved = load_recipe(recipe, set_)
    run = out or Path("runs", recipe.stem)
    if dry_run:
        _print_dry_run(resolved, out)
        return
    from detection.cli.terminal import TerminalWatcher
    from detection.runtime.signals import stopped_by_signals
    from detection.training.train import train as run_training

    with stopped_by_signals() as stop, TerminalWatcher() as watcher:
        best = run_training(resolved, run, watcher=watcher, resume=resume, stop=stop)
    typer.echo(f"{best}")


def _print_dry_run(recipe: Recipe, out: Path | None) -> None:
    """Measure a few steps of a training, and print what the whole run would take.

    Args:
        recipe: of the training.
        out: folder for the image of the first batch; None: a new temporary one.

    """
    from rich.console import Console

    from detection.cli.dry_run_tables import dry_run_tables
    from detection.cli.terminal import TerminalWatcher
    from detection.training.dry_run import dry_run
    from detection.training.prepare import prepare
    from detection.training.pretraining_recipe import pretraining_of

    with TerminalWatcher() as watcher:
        pretraining = pretraining_of(recipe)
        prepared = prepare(recipe, watcher, start=pretraining.find() if pretraining else None)
        measured = dry_run(
            prepared.trainer,
            prepared.source,
            prepared.validator,
            options=prepared.fit,
            out=out,
            watcher=watcher,
        )
    console = Console()
    for part in dry_run_tables(measured, prepared.recipe, str(prepared.provenance.weights)):
        console.print(part)
    typer.echo(f"{measured.image}")
