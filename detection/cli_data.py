"""`swath data ...`: the commands that look after labelled pictures.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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


@app.command(
    epilog=example(
        "swath data convert photos/annotations.json photos_yolo --to yolo",
        "swath data convert VOCdevkit/VOC2007 photos --to coco --copy",
    )
)
def convert(
    source: Annotated[str, typer.Argument(help="Labelled pictures in any format.", metavar="SRC")],
    target: Annotated[Path, typer.Argument(help="The folder to write; new, or empty.", metavar="DST")],
    to: Annotated[str, typer.Option("--to", help="coco, yolo, voc or csv.")],
    from_: Annotated[str, typer.Option("--from", help="coco, yolo, voc, csv or masks; auto recognises it.")] = "auto",
    split: Annotated[str | None, typer.Option(help="Only this part: train, val or test. All, if left out.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the pictures; else they are referred to.")] = False,
    unlabelled: Annotated[
        str, typer.Option(help="Pictures without a label file: background, or skip them.")
    ] = "background",
    images_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the pictures lie, if outside of SRC; trusted.")
    ] = None,
) -> None:
    """Write labelled pictures in another format; what that format cannot say is counted and said."""
    from typing import get_args

    from data.convert import WritableFormat
    from data.convert import convert as write
    from data.formats import Format, load_dataset, load_parts
    from data.repair import Unlabelled
    from detection.terminal import TerminalWatcher

    to_format = one_of(to, get_args(WritableFormat), "--to")
    format_ = one_of(from_, get_args(Format), "--from")
    unlabelled_ = one_of(unlabelled, get_args(Unlabelled), "--unlabelled")
    options = {"format": format_, "unlabelled": unlabelled_, "images_dir": images_dir}
    with TerminalWatcher() as watcher:
        if split is None:
            parts = load_parts(source, **options)
        else:
            one_of(split, ("train", "val", "valid", "test"), "--split")
            parts = {"val" if split == "valid" else split: load_dataset(source, split=split, **options)}
        for part in parts.values():
            for line in part.notices:
                watcher.note(f"{part.name}: {line}")
        lost = write(
            parts,
            target,
            to=to_format,
            copy=copy,
            progress=lambda done, total: watcher.progress("converting", done, total),
        )
        for line in lost:
            watcher.note(line)
    pictures, boxes = sum(map(len, parts.values())), sum(part.box_count for part in parts.values())
    typer.echo(f"{target}: {pictures} pictures, {boxes} boxes ({', '.join(parts)})")


def one_of(value: str, known: tuple[str, ...], option: str) -> Any:
    """A word of an option, or wrong usage."""
    if value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)
    return value


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

    from data.files import write_whole
    from data.formats import load_dataset
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
    write_whole(out, page)
    typer.echo(f"{out}")
