"""`swath data fetch`: a public dataset by its name.

Heavy imports are inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from detection.cli.data import app
from detection.cli.help import example


@app.command(
    epilog=example(
        "swath data fetch --list",
        "swath data fetch mango-yolo --out mangoes",
        "swath data fetch plantdoc --mirror file:///media/usb",
    )
)
def fetch(
    name: Annotated[str | None, typer.Argument(help="The dataset; --list shows all.", metavar="NAME")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where it goes; ./NAME if left out.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="SWATH_MIRROR", help="Where to fetch the archives instead: https, http or file://."
        ),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Accept no archive with another SHA-256 than this one.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the datasets.")] = False,
) -> None:
    """Fetch a public, openly licensed dataset by its name.

    Continues an interrupted download. Leaves source.json beside the images: licence, citation, checksum.
    """
    from rich.console import Console

    from data.download.fetch import fetch as get
    from data.download.fetch import read_fetched
    from data.download.registry import public_set, public_sets
    from data.errors import DataError
    from detection.cli.data_tables import public_sets_table
    from detection.cli.terminal import TerminalWatcher

    if list_ == (name is not None):
        raise typer.BadParameter("give a NAME or --list", param_hint="NAME")
    if name is None:
        Console().print(public_sets_table(public_sets().values()))
        return
    wanted = public_set(name)
    if sha256 is not None:
        if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise typer.BadParameter(f"{sha256!r} is not 64 hex digits", param_hint="--sha256")
        wanted = wanted.model_copy(update={"sha256": sha256.lower()})
    with TerminalWatcher() as watcher:
        fetched = get(wanted, out or Path(wanted.name), watcher, mirror=mirror)
        if not fetched.source["verified"]:
            digest = fetched.source["sha256"]
            watcher.note(f"not verified: no published checksum. SHA-256 of the archive: {digest}")
            watcher.note(f"to accept only this archive from now on: --sha256 {digest}")
        if wanted.note:
            watcher.note(wanted.note)
    where = f"{out or wanted.name}"
    typer.echo(f"{where}: {wanted.title}" + ("" if fetched.new else " (is there already)"))
    typer.echo(f"licence {wanted.licence}; cite: {wanted.citation}")
    try:
        parts = read_fetched(wanted, fetched.folder)
    except DataError as error:
        raise DataError(f"{where}: was fetched, but cannot be read: {error}") from None
    for part_name, part in parts.items():
        classes = len(part.class_names)
        typer.echo(f"{part_name}: {len(part)} images, {part.box_count} boxes, {classes} classes")
