"""Label files by their usual names, in a folder that may hold one for each split."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.dataset import SPLITS
from data.errors import NoSuchSplit


def files_named(folder: Path, *names: str) -> list[Path]:
    """The files of these names that `folder` holds."""
    return [folder / name for name in names if os.path.isfile(folder / name)]


def split_files(folder: Path, suffix: str) -> dict[str, Path]:
    """Name of a split -> its file in `folder`, such as `train.json` for the suffix ".json"."""
    names = dict.fromkeys(name for names in SPLITS.values() for name in names)
    return {name: folder / f"{name}{suffix}" for name in names if os.path.isfile(folder / f"{name}{suffix}")}


def of_split(folder: Path, files: Mapping[str, Path], split: str) -> list[Path]:
    """The file of `split`, from one for each split; none where there are no files at all.

    Raises:
        NoSuchSplit: there are files of other splits only.

    """
    mine = [file for name, file in files.items() if name in SPLITS[split]]
    if files and not mine:
        raise no_such_split(folder, split, files.values())
    return mine


def no_such_split(folder: Path, split: str, files: Iterable[Path]) -> NoSuchSplit:
    """The error for a folder that holds the files of other splits."""
    there = ", ".join(file.name for file in files)
    return NoSuchSplit(f"{folder}: no split {split!r} among {there}: name the file itself")
