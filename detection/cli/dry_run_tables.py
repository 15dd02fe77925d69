"""A dry run in tables, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.syntax import Syntax
from rich.table import Table

from detection.cli.training_view import duration
from detection.recipe.schema import Recipe
from detection.training.dry_run import DatasetCounts, DryRun


def dry_run_tables(measured: DryRun, recipe: Recipe, weights: str) -> Iterator[RenderableType]:
    """What to print, from the recipe to the time that the run would take.

    Args:
        measured: what was measured.
        recipe: resolved.
        weights: what the run starts from, in words.

    """
    yield Syntax(recipe.to_yaml().rstrip(), "yaml", background_color="default", word_wrap=True)
    yield ""
    yield _images(measured)
    yield ""
    yield _parameters(measured)
    yield ""
    yield _run(measured, recipe, weights)


def _images(measured: DryRun) -> Table:
    table = _table("images and boxes", "class", "train images", "boxes")
    if measured.val is not None:
        for name in ("val images", "boxes"):
            table.add_column(name, justify="right")
    parts = [measured.train, *([] if measured.val is None else [measured.val])]
    for name in measured.train.per_class:
        cells = [part.per_class.get(name, (0, 0)) for part in parts]
        table.add_row(name, *(f"{number:,}" for cell in cells for number in cell))
    table.add_row("no box", *(text for part in parts for text in (f"{part.empty:,}", "")), style="dim")
    table.add_row(
        "all", *(text for part in parts for text in (f"{part.images:,}", f"{_boxes(part):,}")), style="bold"
    )
    return table


def _parameters(measured: DryRun) -> Table:
    table = _table("parameters", "part", "all", "trained")
    for part in measured.parts:
        table.add_row(part.name, f"{part.total:,}", f"{part.trainable:,}")
    whole = (sum(part.total for part in measured.parts), sum(part.trainable for part in measured.parts))
    table.add_row("all", *(f"{number:,}" for number in whole), style="bold")
    return table


def _run(measured: DryRun, recipe: Recipe, weights: str) -> Table:
    settings = recipe.train
    height, width = recipe.input.size_hw
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("starts from", weights)
    table.add_row("computes on", f"{measured.device}, {settings.precision}")
    table.add_row("one image", f"{height} x {width} px, {measured.gflops:.2f} GFLOPs forward")
    loading = f"{measured.load_s:.2f} s to load in one process ({settings.workers} in the run)"
    table.add_row(
        f"a step of {measured.global_batch_size} images",
        f"about {measured.step_s:.2f} s: {measured.compute_s:.2f} s to compute, {loading}",
    )
    memory = measured.memory
    inner = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
        "images": memory.batch,
    }
    inside = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in inner.items())
    table.add_row("memory of a step", f"about {memory.total / 2**20:,.0f} MiB besides torch itself: {inside}")
    if measured.val is not None:
        table.add_row(
            "a validation", f"about {duration(measured.validation_s)}, every {settings.validate_every} epochs"
        )
    table.add_row("the run", f"{measured.steps:,} steps, {settings.epochs} epochs: about {duration(measured.run_s)}")
    if measured.ended_by_budget:
        table.add_row("", f"ended by train.max_minutes ({settings.max_minutes:g}), before all its steps")
    return table


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _boxes(part: DatasetCounts) -> int:
    return sum(boxes for _, boxes in part.per_class.values())
