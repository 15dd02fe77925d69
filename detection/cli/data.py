"""`swath data ...`: check, convert, split, preview and tile labelled images.

Heavy imports are inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.dataset_options import (
    SPLITS,
    DatasetCommand,
    FormatOption,
    ImagesDirOption,
    PartOption,
    UnlabelledOption,
    one_of,
    reading,
)
from detection.cli.help import example

if TYPE_CHECKING:
    from data.loading.tiles import TileSettings

app = typer.Typer(
    help="Work with labelled images: check, convert, split, preview, tile, fetch.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(
    cls=DatasetCommand,
    epilog=example(
        "swath data convert photos/annotations.json photos_yolo --to yolo",
        "swath data convert VOCdevkit/VOC2007 photos --to coco --copy",
    ),
)
def convert(
    source: Annotated[str, typer.Argument(help="Labelled images in any format.", metavar="SRC")],
    target: Annotated[Path, typer.Argument(help="The folder to write; new, or empty.", metavar="DST")],
    to: Annotated[str, typer.Option("--to", help="The format to write: {writable}.")],
    from_: Annotated[str, typer.Option("--from", help="The format of SRC: {formats}; auto recognises it.")] = "auto",
    split: PartOption = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images; else they are referred to.")] = False,
    unlabelled: UnlabelledOption = "background",
    images_dir: ImagesDirOption = None,
) -> None:
    """Write labelled images in another format; what that format cannot represent is counted and reported."""
    from data.formats import load_dataset, load_parts
    from data.formats.convert import convert as write
    from data.formats.kinds import WRITABLE
    from detection.cli.terminal import TerminalWatcher

    one_of(to, WRITABLE, "--to")
    options = reading(from_, unlabelled, images_dir, option="--from")
    with TerminalWatcher() as watcher:
        if split is None:
            parts = load_parts(source, **options)
        else:
            one_of(split, SPLITS, "--split")
            parts = {"val" if split == "valid" else split: load_dataset(source, split=split, **options)}
        for part in parts.values():
            for line in part.notices:
                watcher.note(f"{part.name}: {line}")
        written = write(
            parts,
            target,
            to=to,
            copy=copy,
            progress=lambda done, total: watcher.progress("converting", done, total),
        )
        for line in written.notices:
            watcher.note(line)
    typer.echo(f"{target}: {written.images} images, {written.boxes} boxes ({', '.join(parts)})")


@app.command(
    cls=DatasetCommand,
    epilog=example(
        "swath data check photos --html check.html",
        "swath data check photos/train.txt --against photos/test.txt",
    ),
)
def check(
    dataset: Annotated[
        str, typer.Argument(help="Labelled images in any format; a .txt list of images too.", metavar="DATASET")
    ],
    against: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Compare with this one too: for leaks and missing classes.")
    ] = None,
    split: PartOption = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Key of groups that must not be on both sides: field, photo, date, ..."),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="The network's input size, px; sets what is too small.")] = 512,
    overlap: Annotated[
        bool, typer.Option("--overlap/--no-overlap", help="Find tiles of one photo by their pixels too; slower.")
    ] = True,
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the findings as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="F", help="Write them as a page with images.")
    ] = None,
    format: FormatOption = "auto",
    unlabelled: UnlabelledOption = "background",
    images_dir: ImagesDirOption = None,
) -> None:
    """Report all faults of labelled images: files, boxes, classes, and leaks between their parts.

    Every part is compared with every other. Exits with 1 if there are errors.
    """
    from rich.console import Console

    from data.check import check as check_parts
    from data.check import named_apart, read_parts
    from data.check.page import page
    from data.files import json_text, write_whole
    from detection.cli.data_tables import findings_table, parts_table
    from detection.cli.terminal import TerminalWatcher

    if split is not None:
        one_of(split, SPLITS, "--split")
    options = reading(format, unlabelled, images_dir)
    with TerminalWatcher() as watcher:
        parts = read_parts(dataset, split=split, **options)
        if against is not None:
            parts = named_apart(parts, read_parts(against, **options))
        report = check_parts(parts, by=by, size_hw=(size, size), overlaps=overlap, progress=watcher.progress)
        if html is not None:
            write_whole(html, page(report, parts, title=dataset).encode(errors="backslashreplace"))
        if json_ is not None:
            write_whole(json_, json_text(report.to_json()))
    console = Console()
    if report.parts:
        console.print(parts_table(report.parts))
    if report.findings:
        console.print(findings_table(report))
    typer.echo(f"{dataset}: {report.tally()}" + (f", {html}" if html else ""))
    raise typer.Exit(1 if report.count("error") else 0)


@app.command(
    cls=DatasetCommand,
    epilog=example(
        "swath data split photos --by field --val 0.2 --test 0.1 --seed 0 --out parts",
        "swath data split tiles --by photo --folds 5 --out folds",
    ),
)
def split(
    dataset: Annotated[str, typer.Argument(help="Labelled images; all of their parts.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write the parts, as COCO JSONs.")],
    by: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Key of groups that stay together: field, photo, date, re:PATTERN, ...; else the best.",
        ),
    ] = None,
    val: Annotated[float, typer.Option(min=0, max=1, help="Share for validation.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share for testing.")] = 0.0,
    hold_out: Annotated[
        list[str],
        typer.Option("--hold-out", metavar="GROUP", help="Test on this group of --by; repeat it for more groups."),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    folds: Annotated[int | None, typer.Option(min=2, help="Number of train/test splits, instead of shares.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random split.")] = 0,
    near: Annotated[
        bool, typer.Option("--near/--no-near", help="Keep near-duplicates on one side too; decodes every image.")
    ] = False,
    format: FormatOption = "auto",
    unlabelled: UnlabelledOption = "background",
    images_dir: ImagesDirOption = None,
) -> None:
    """Split labelled images so that what belongs together stays on one side, and classes in proportion.

    The parts are COCO JSONs that refer to the original images; split.json beside them records how they were made.
    """
    if hold_out and (test or folds or not by):
        raise typer.BadParameter("goes with --by, and not with --test or --folds", param_hint="--hold-out")
    from rich.console import Console

    from data.check.duplicates import alike
    from data.check.signature import image_signatures
    from data.dataset import merged
    from data.formats import load_parts
    from data.splits.split import save_split, split_folds, split_groups, split_held_out
    from detection.cli.data_tables import parts_table
    from detection.cli.terminal import TerminalWatcher

    whole = merged(load_parts(dataset, **reading(format, unlabelled, images_dir)))
    together: list[tuple[int, int]] = []
    with TerminalWatcher() as watcher:
        for line in whole.notices:
            watcher.note(line)
        if near:
            report = lambda done, total: watcher.progress("reading images", done, total)  # noqa: E731
            together = alike(image_signatures(whole.images, keypoints=False, progress=report))
    options: dict[str, float | bool | list[str]] = {"near": near}
    if hold_out and by:
        options |= {"val": val, "hold_out": hold_out}
        splits = {out: split_held_out(whole, by=by, held_out=hold_out, val=val, seed=seed, together=together)}
    elif folds is None:
        options |= {"val": val, "test": test}
        splits = {out: split_groups(whole, by=by, val=val, test=test, seed=seed, together=together)}
    else:
        options |= {"folds": folds}
        made = split_folds(whole, folds=folds, by=by, seed=seed, together=together)
        splits = {out / f"fold{number}": one for number, one in enumerate(made)}
    for folder, one in splits.items():
        save_split(whole, one, folder, seed=seed, options=options)
        grouped = f"by {one.key}" if by else f"by {one.key}, chosen automatically (--by changes it)"
        Console().print(parts_table(one.counts(whole), title=f"{folder}: {grouped}"))


@app.command(epilog=example("swath data preview configs/crop_weed.yaml photos/train --out preview.html"))
def preview(
    recipe: Annotated[Path, typer.Argument(help="The recipe, one YAML.", metavar="RECIPE")],
    dataset: Annotated[str, typer.Argument(help="Labelled images to show it on.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", metavar="F.html", help="The page to write.")],
    set_: Annotated[
        list[str], typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    images: Annotated[int, typer.Option(min=1, help="Images to show under the whole recipe.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of the random augmentation.")] = 0,
) -> None:
    """Show what a recipe's augmentation does: each effect with boxes, the whole recipe, what the network sees.

    Leaves one HTML page that needs no network.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{out} must end in .html", param_hint="--out")
    from functools import partial

    from data.files import write_whole
    from data.formats import load_dataset
    from data.loading.preview import html_preview
    from data.loading.tiles import tile_dataset
    from detection.cli.terminal import TerminalWatcher
    from detection.recipe.reading import load_recipe
    from detection.training.batches import fit_to_input

    resolved = load_recipe(recipe, set_)
    labelled = load_dataset(dataset, split="train", **resolved.data.reading)
    if resolved.data.tiles is not None:
        labelled, _ = tile_dataset(labelled, resolved.data.tiles)
    size_hw = resolved.input.size_hw
    with TerminalWatcher() as watcher:
        for notice in labelled.notices:
            watcher.note(notice)
        page = html_preview(
            labelled,
            resolved.augment,
            name=recipe.stem,
            size_hw=size_hw,
            fit=partial(fit_to_input, size_hw=size_hw),
            images=images,
            seed=seed,
            progress=lambda done, total: watcher.progress("drawing", done, total),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    typer.echo(f"{out}")


@app.command(
    cls=DatasetCommand,
    epilog=example(
        "swath data tile photos --size 640 --overlap 0.25 --out tiles",
        "swath data tile drone --size 640 --tile-m 1.5 --gsd-mm 2.1 --out tiles",
    ),
)
def tile(
    dataset: Annotated[str, typer.Argument(help="Labelled photos in any format.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; new, or empty.")],
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 640,
    overlap: Annotated[float, typer.Option(help="Share of a tile's side that its neighbour shows too.")] = 0.25,
    min_visible: Annotated[
        float, typer.Option(help="Boxes with less of their area in a tile are dropped from it.")
    ] = 0.4,
    tile_m: Annotated[
        float | None, typer.Option(help="Side of a tile on the ground in metres; such tiles are resized to --size.")
    ] = None,
    gsd_mm: Annotated[
        float | None,
        typer.Option(help="Ground that a pixel covers, in millimetres; else each photo's attribute gsd_mm."),
    ] = None,
    to: Annotated[str, typer.Option(help="jpg, png, or auto: jpg for tiles of JPEGs.")] = "auto",
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "train",
    format: FormatOption = "auto",
    unlabelled: UnlabelledOption = "background",
    images_dir: ImagesDirOption = None,
) -> None:
    """Cut large photos into tiles that overlap, and write them as a dataset of their own.

    Training needs no such copy: data.tiles in a recipe cuts the photos as it goes. Each tile names its photo, so
    that `swath data split --by photo` keeps tiles of one photo together, and its place in the photo.
    """
    from typing import get_args

    from data.formats import load_dataset
    from data.images import maps_allowed
    from data.loading.tile_writer import TileFormat, write_tiles
    from data.loading.tiles import tile_dataset
    from detection.cli.terminal import TerminalWatcher

    kind = one_of(to, get_args(TileFormat), "--to")
    one_of(split, SPLITS, "--split")
    if gsd_mm is not None and tile_m is None:
        raise typer.BadParameter("needs --tile-m", param_hint="--gsd-mm")
    settings = _tile_settings(size_px=size, overlap=overlap, min_visible=min_visible, tile_m=tile_m, gsd_mm=gsd_mm)
    with maps_allowed():
        photos = load_dataset(dataset, split=split, **reading(format, unlabelled, images_dir))
    tiled, counts = tile_dataset(photos, settings)
    with TerminalWatcher() as watcher:
        for line in tiled.notices:
            watcher.note(line)
        write_tiles(
            tiled, out, format=kind, progress=lambda done, total: watcher.progress("writing tiles", done, total)
        )
    typer.echo(f"{out}: {counts.tiles} tiles of {counts.photos} photos, {tiled.box_count} boxes")


def _tile_settings(**flags: Any) -> TileSettings:
    """Flags of `swath data tile` as settings, whose ranges they are checked by."""
    from pydantic import ValidationError

    from data.loading.tiles import TileSettings

    try:
        return TileSettings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).removesuffix("_px").replace("_", "-")
        raise typer.BadParameter(f"{first['msg']}, got {first['input']}", param_hint=flag) from None
