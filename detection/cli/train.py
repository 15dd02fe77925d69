"""What `swath train` does besides training: `--dry-run` and `--find-lr`."""

from __future__ import annotations

from pathlib import Path

import typer

from detection.recipe.schema import Recipe


def look_before(recipe: Recipe, out: Path | None, *, find_lr: bool) -> None:
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
