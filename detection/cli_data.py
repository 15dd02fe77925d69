"""`swath data ...`: the commands that look after labelled pictures.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Look after labelled pictures: check, convert, split, preview, tile, fetch.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def example(*lines: str) -> str:
    """The end of a command's help: what one types."""
    return "[bold]Example[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)


@app.command(epilog=example("swath data preview configs/crop_weed.yaml photos/train --out preview.html"))
def preview(
    recipe: Annotated[Path, typer.Argument(help="The recipe, one YAML.", metavar="RECIPE")],
    dataset: Annotated[str, typer.Argument(help="Labelled pictures to show it on.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", metavar="F.html", help="The page to write.")],
    set_: Annotated[
        list[str], typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    pictures: Annotated[int, typer.Option(min=1, help="Pictures to show of the recipe as it stands.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Another seed shows other draws.")] = 0,
) -> None:
    """Show what a recipe's augmentation does: each effect with boxes, the whole recipe, what the network sees.

    Leaves one HTML page that needs no network.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{out} must end in .html", param_hint="--out")
    from functools import partial

    from data.coco import _write_whole
    from data.dataset import load_dataset
    from data.preview import html_preview
    from detection.config import load_recipe
    from detection.terminal import TerminalWatcher
    from detection.train import fit_to_input

    resolved = load_recipe(recipe, set_)
    labelled = load_dataset(dataset, split="train")
    size_hw = resolved.input.size_hw
    with TerminalWatcher() as watcher:
        for notice in labelled.notices:
            watcher.note(notice)
        page = html_preview(
            labelled,
            name=recipe.stem,
            size_hw=size_hw,
            settings=resolved.augment.settings(),
            fit=partial(fit_to_input, size_hw=size_hw),
            pictures=pictures,
            seed=seed,
            progress=lambda done, total: watcher.progress("drawing", done, total),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(out, page)
    typer.echo(f"{out}")
