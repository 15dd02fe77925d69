"""`swath train`, with `--dry-run` and `--find-lr`.

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
    "swath train configs/crop_weed.yaml --find-lr",
)


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, one YAML.", metavar="RECIPE")],
    set_: Annotated[
        list[str], typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder; runs/ and the recipe's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last.ckpt.")] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Train nothing: find a learning rate, draw it in the run folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: say what the run would take, draw its first batch.")
    ] = False,
) -> None:
    """Fine-tune a detector on labelled images.

    Leaves a run: config.yaml, metrics.csv, TensorBoard events, best.safetensors, last.ckpt.
    """
    if find_lr + dry_run + resume > 1:
        raise typer.BadParameter("give one of --resume, --find-lr and --dry-run", param_hint="swath train")
    from detection.recipe.reading import load_recipe

    resolved = load_recipe(recipe, set_)
    run = out or Path("runs", recipe.stem)
    if find_lr or dry_run:
        _look_before(resolved, run if find_lr else out, find_lr=find_lr)
        return
    from detection.cli.terminal import TerminalWatcher
    from detection.runtime.signals import stopped_by_signals
    from detection.training.train import train as run_training

    with stopped_by_signals() as stop, TerminalWatcher() as watcher:
        best = run_training(resolved, run, watcher=watcher, resume=resume, stop=stop)
    typer.echo(f"{best}")


def _look_before(recipe: Recipe, out: Path | None, *, find_lr: bool) -> None:
    """Look before hours go into a training, and print what was seen.

    Args:
        recipe: of the training.
        out: folder of the images that it draws; None for a dry run: a new temporary one.
        find_lr: whether the learning rate is looked for; else it is a dry run.

    """
    from rich.console import Console

    from detection.cli.terminal import TerminalWatcher

    if find_lr:
        assert out is not None
        from detection.training.lr_finder import find_learning_rate

        with TerminalWatcher() as watcher:
            curve = find_learning_rate(recipe, out, watcher=watcher)
        for line in curve.in_words(recipe.train.learning_rate):
            typer.echo(line)
        typer.echo(f"{out / 'lr_finder.svg'}")
        return
    from detection.cli.dry_run_tables import dry_run_tables
    from detection.training.dry_run import dry_run

    with TerminalWatcher() as watcher:
        seen = dry_run(recipe, out=out, watcher=watcher)
    console = Console()
    for part in dry_run_tables(seen):
        console.print(part)
    typer.echo(f"{seen.image}")
