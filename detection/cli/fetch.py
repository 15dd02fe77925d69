"""`swath data fetch`: a public dataset by its name.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli.data import app
from detection.cli.help import example


@app.command(
    epilog=example(
        "swath data fetch --list",
        "swath data fetch ghai-broccoli --out broccoli",
        "swath data fetch plantdoc --mirror file:///media/usb",
    )
)
def fetch(
    name: Annotated[str | None, typer.Argument(help="Which one; --list shows them.", metavar="NAME")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where it goes; ./NAME if left out.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            metavar="URL", envvar="SWATH_MIRROR", help="Where the archives lie instead: https, http or file://."
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the datasets that there are.")] = False,
) -> None:
    """Fetch a public, openly licensed dataset by its name.

    Goes on where an earlier try was broken off. Leaves source.json beside the images: licence, citation, checksum.
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
    with TerminalWatcher() as watcher:
        fetched = get(
            wanted,
            out or Path(wanted.name),
            mirror=mirror,
            progress=watcher.progress,
            bytes_progress=watcher.bytes_progress,
            note=watcher.note,
        )
        if not fetched.source["verified"]:
            watcher.note(f"not compared with a known checksum; its SHA-256 is {fetched.source['sha256']}")
        if wanted.note:
            watcher.note(wanted.note)
    where = f"{out or wanted.name}"
    typer.echo(f"{where}: {wanted.title}" + ("" if fetched.new else " (is there already)"))
    typer.echo(f"licence {wanted.licence}; cite: {wanted.citation}")
    try:
        parts = read_fetched(wanted, fetched.folder)
    except DataError as error:
        raise DataError(f"{where}: is there, but cannot be read as it stands: {error}") from None
    for part_name, part in parts.items():
        classes = len(part.class_names)
        typer.echo(f"{part_name}: {len(part)} images, {part.box_count} boxes, {classes} classes")
