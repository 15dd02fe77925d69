"""Label files by their usual names, in a folder that may hold one for each split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.errors import NoSuchSplit
from data.formats.names import names_in, same, split_of


def files_named(folder: Path, *names: str) -> list[Path]:
    """The files of these names that `folder` holds, in any case; those that begin with a dot are no one's labels."""
    there = [name for name in names_in(folder) if same(name) in names]
    found = sorted((folder / name for name in there), key=lambda file: (names.index(same(file.name)), file))
    return [file for file in found if os.path.isfile(file)]


def split_files(folder: Path, suffix: str) -> dict[Path, str]:
    """A file in `folder` named after a split, such as `train.json` for the suffix ".json" -> that split."""
    files = {folder / name: split_of(Path(name).stem) for name in names_in(folder) if name.lower().endswith(suffix)}
    return {file: split for file, split in files.items() if split and os.path.isfile(file)}


def of_split(folder: Path, files: Mapping[Path, str], split: str) -> list[Path]:
    """The files of `split`, from files for each split; none where there are no files at all.

    Raises:
        NoSuchSplit: there are files of other splits only.

    """
    mine = [file for file, one in files.items() if one == split_of(split)]
    if files and not mine:
        raise no_such_split(folder, split, files)
    return mine


def no_such_split(folder: Path, split: str, files: Iterable[Path]) -> NoSuchSplit:
    """The error for a folder that holds the files of other splits."""
    there = ", ".join(file.name for file in files)
    return NoSuchSplit(f"{folder}: no split {split!r} among {there}: name the file itself")
