"""Reading a dataset in whatever format it is: recognised, or named by the user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from data.dataset import Dataset
from data.errors import DataError, NoSuchSplit, PartMissing
from data.formats.foreign import foreign_labels
from data.formats.format import Format, ReadOptions
from data.formats.kinds import AUTO, KINDS, READABLE
from data.formats.names import names_in, split_of
from data.formats.repair import Unlabelled

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class _Found:
    """A dataset: its format, and the file or folder that describes it."""

    kind: Format
    path: Path


def load_dataset(
    source: str | Path,
    *,
    split: str = "train",
    format: str = AUTO,
    unlabelled: Unlabelled = "background",
    images_dir: str | Path | None = None,
) -> Dataset:
    """Read a dataset of any format, such as `load_dataset("photos", split="val")`.

    Args:
        source: a folder that holds a dataset, perhaps with one folder for each split; or its label file, such as
            a COCO JSON (Label Studio's and CVAT's exports too), a YOLO `data.yaml` or a .txt list beside one.
        split: "train", "val" ("valid" is the same) or "test", for formats that have splits.
        format: "auto" recognises it; the name of one of `data.formats.KINDS` where that fails or is ambiguous.
        unlabelled: what an image without a label file (YOLO, VOC) or mask is: "background", or not labelled
            yet: "skip" it. The other formats list their background images.
        images_dir: the folder of the images, where they lie elsewhere; they may then lie outside of the
            dataset's folder (see `data.formats.references`).

    Returns:
        The images with their boxes in absolute pixels of each image as displayed (EXIF orientation applied).

    Raises:
        NoSuchSplit: the dataset has other splits.
        DataError: no dataset is there, or it is faulty; one line that says where.

    """
    if unlabelled not in get_args(Unlabelled):
        raise DataError(f"unlabelled {unlabelled!r}: use {' or '.join(get_args(Unlabelled))}")
    found = _locate(Path(source), split, format)
    images = None if images_dir is None else Path(images_dir)
    if images is not None and not os.path.isdir(images):
        raise DataError(f"{images}: no such folder of images")
    also = _classes_of_others(found, Path(source), split, format)
    return found.kind.reads(found.path, ReadOptions(split, unlabelled, images, also))


def _classes_of_others(found: _Found, source: Path, split: str, format: str) -> frozenset[str]:
    """The classes that occur in the dataset's other parts: together they are its classes, and a part may lack one."""
    names: set[str] = set()
    if found.kind.occurring is None:
        return frozenset()
    for other in PARTS:
        if other != split_of(split):
            try:
                part = _locate(source, other, format)
            except DataError:
                continue
            if part.kind is found.kind and part.path != found.path:
                names |= set(found.kind.occurring(part.path))
    return frozenset(names)


def load_parts(
    source: str | Path,
    *,
    format: str = AUTO,
    unlabelled: Unlabelled = "background",
    images_dir: str | Path | None = None,
) -> dict[str, Dataset]:
    """Every split that a dataset has, "train", "val" and "test"; all of it as "train" where it has none.

    The arguments and errors are those of `load_dataset`.
    """
    parts: dict[str, Dataset] = {}
    absent: list[NoSuchSplit] = []
    for split in PARTS:
        try:
            part = load_dataset(source, split=split, format=format, unlabelled=unlabelled, images_dir=images_dir)
        except NoSuchSplit as error:
            if isinstance(error, PartMissing) and error.near:
                raise
            absent.append(error)
            continue
        if part.name in {other.name for other in parts.values()}:
            break  # without splits, every one of them is the whole
        parts[split] = part
    if not parts:
        raise absent[0]
    missing = tuple(f"left out: {error}" for error in absent if isinstance(error, PartMissing))
    first = next(iter(parts))
    parts[first] = replace(parts[first], notices=(*parts[first].notices, *missing))
    return parts


def _locate(source: Path, split: str, format: str) -> _Found:
    """What describes the dataset at `source` (of `split`, where there is one file or folder for each)."""
    if split not in (*PARTS, "valid"):
        raise DataError(f"split {split!r}: use train, val or test")
    if format not in READABLE:
        raise DataError(f"format {format!r}: use one of {', '.join(READABLE)}")
    if os.path.isdir(source):
        return _in_folder(source, split, format)
    if not os.path.lexists(source):
        raise DataError(f"{source}: no such file or folder")
    suffix = source.suffix.lower()
    for kind in _considered(format):
        if kind.suffixes and (format != AUTO or suffix in kind.suffixes):
            return _Found(kind, source)
    foreign = foreign_labels(source)
    if foreign:
        raise DataError(foreign)
    known = ", ".join(f"{'/'.join(kind.suffixes)} ({kind.title})" for kind in KINDS if kind.suffixes)
    raise DataError(f"{source}: not a dataset; give a folder that holds one, or a label file: {known}")


def _in_folder(folder: Path, split: str, format: str) -> _Found:
    absent: NoSuchSplit | None = None
    found: list[_Found] = []
    for kind in _considered(format):
        try:
            found += (_Found(kind, path) for path in _found_by(kind, folder, split, format))
        except NoSuchSplit as error:
            absent = error
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(
            f"{os.path.relpath(f.path, folder)} ({f.kind.name})"
            if f.path == folder
            else os.path.relpath(f.path, folder)
            for f in found
        )
        raise DataError(f"{folder}: holds several datasets ({names}): name the file itself, or give the --format")
    if absent is not None:
        raise absent
    # Roboflow and others: a folder for each split, each a dataset of its own.
    inner = [folder / name for name in names_in(folder) if split_of(name) and os.path.isdir(folder / name)]
    holding = [home for home in inner if _holds_any(home, format)]
    mine = [home for home in holding if split_of(home.name) == split_of(split)]
    if len(mine) > 1:
        raise DataError(f"{folder}: {mine[0].name} and {mine[1].name} are both a part {split!r}: rename one of them")
    if mine:
        return _in_folder(mine[0], split, format)
    if holding:
        there = ", ".join(sorted(home.name for home in holding))
        raise NoSuchSplit(f"{folder}: no split {split!r} here; there is: {there}")
    inside = [home for name in names_in(folder) if (home := folder / name).is_dir() and _holds_any(home, format)]
    if inside:
        raise DataError(f"{folder}: no dataset in this folder itself; there is one in {inside[0]}: name that")
    foreign = foreign_labels(folder)
    if foreign:
        raise DataError(foreign)
    looked_for = ", ".join(f"{kind.looked_for} ({kind.name})" for kind in KINDS)
    raise DataError(f"{folder}: no dataset in this folder; looked for {looked_for}: name the file itself")


def _holds_any(folder: Path, format: str) -> bool:
    for kind in _considered(format):
        try:
            if any(True for _ in _found_by(kind, folder, "train", format)):
                return True
        except NoSuchSplit:
            return True
    return False


def _considered(format: str) -> tuple[Format, ...]:
    return tuple(kind for kind in KINDS if format in (AUTO, kind.name))


def _found_by(kind: Format, folder: Path, split: str, format: str) -> Iterator[Path]:
    return (path for path in kind.finds(folder, split) if format != AUTO or kind.recognises(path))
