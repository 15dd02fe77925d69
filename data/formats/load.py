"""The door: a dataset in whatever format it comes, recognised or named."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data.dataset import SPLITS, Dataset
from data.errors import DataError, NoSuchSplit
from data.formats.boxes_csv import is_boxes_csv, read_csv
from data.formats.coco import read_coco
from data.formats.masks import is_mask_folder, read_masks
from data.formats.repair import Unlabelled
from data.formats.voc import read_voc, voc_folders
from data.formats.yolo import read_yolo

Format = Literal["auto", "coco", "yolo", "voc", "csv", "masks"]

_LOOKED_FOR = (
    "annotations.json, _annotations.coco.json, result.json, instances_*.json, {train,val,test}.json (coco), "
    "data.yaml (yolo), Annotations/*.xml or *.xml (voc), annotations.csv, {train,val,test}.csv (csv), "
    "images/ with masks/ (masks)"
)


@dataclass(frozen=True)
class _Found:
    """A dataset: its format, and the file or folder that describes it."""

    format: str
    path: Path


def load_dataset(
    source: str | Path,
    *,
    split: str = "train",
    format: Format = "auto",
    unlabelled: Unlabelled = "background",
    images_dir: str | Path | None = None,
) -> Dataset:
    """Read a dataset, whatever its format.

    Args:
        source: a COCO JSON (Label Studio's and CVAT's exports too), a YOLO `data.yaml`, a .txt list of images
            beside one, a CSV of boxes, a Pascal VOC folder, a folder of images and masks, or a folder that
            holds one of them, perhaps with one folder for each split.
        split: "train", "val" ("valid" is the same) or "test", for formats that have splits.
        format: "auto" recognises it; coco, yolo, voc, csv or masks where that is wrong or there are several.
        unlabelled: what an image without a label file (YOLO, VOC) or mask is: "background", or not labelled
            yet: "skip" it. Other formats name their background images.
        images_dir: the folder of the images, where they lie elsewhere; they may then lie outside of the
            dataset's folder (see `data.formats.references`).

    Raises:
        NoSuchSplit: the dataset has other splits.
        DataError: nothing known is there, or what is there is faulty; one line that says where.

    """
    if unlabelled not in get_args(Unlabelled):
        raise DataError(f"unlabelled {unlabelled!r}: use background or skip")
    found = _locate(Path(source), split, format)
    images = None if images_dir is None else Path(images_dir)
    if images is not None and not os.path.isdir(images):
        raise DataError(f"{images}: no such folder of images")
    if found.format == "coco":
        return read_coco(found.path, images)
    if found.format == "yolo":
        return read_yolo(found.path, split, unlabelled=unlabelled, images_dir=images)
    if found.format == "voc":
        return read_voc(found.path, split, unlabelled=unlabelled, images_dir=images)
    if found.format == "csv":
        return read_csv(found.path, images)
    return read_masks(found.path, unlabelled=unlabelled, images_dir=images)


def load_parts(
    source: str | Path,
    *,
    format: Format = "auto",
    unlabelled: Unlabelled = "background",
    images_dir: str | Path | None = None,
) -> dict[str, Dataset]:
    """Every split that a dataset has, "train", "val" and "test"; all of it as "train" where it has none.

    The arguments and errors are those of `load_dataset`.
    """
    parts: dict[str, Dataset] = {}
    absent: list[NoSuchSplit] = []
    for split in ("train", "val", "test"):
        try:
            part = load_dataset(source, split=split, format=format, unlabelled=unlabelled, images_dir=images_dir)
        except NoSuchSplit as error:
            absent.append(error)
            continue
        if part.name in {other.name for other in parts.values()}:
            break  # without splits, every one of them is the whole
        parts[split] = part
    if not parts:
        raise absent[0]
    return parts


def _locate(source: Path, split: str, format: str) -> _Found:
    """What describes the dataset at `source` (of `split`, where there is one file or folder for each)."""
    if split not in SPLITS:
        raise DataError(f"split {split!r}: use train, val or test")
    if format not in get_args(Format):
        raise DataError(f"format {format!r}: use one of {', '.join(get_args(Format))}")
    if os.path.isdir(source):
        return _in_folder(source, split, format)
    if not os.path.lexists(source):
        raise DataError(f"{source}: no such file or folder")
    by_suffix = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".csv": "csv", ".txt": "yolo"}
    kind = by_suffix.get(source.suffix.lower()) if format == "auto" else format
    if kind is None or kind in ("voc", "masks"):
        raise DataError(
            f"{source}: not a dataset; give a COCO .json, a YOLO data.yaml or .txt list, a .csv of boxes "
            "or a folder holding one"
        )
    return _Found(kind, source)


def _in_folder(folder: Path, split: str, format: str) -> _Found:
    absent: NoSuchSplit | None = None
    found: list[_Found] = []
    for kind, look in _FINDERS.items():
        if format in ("auto", kind):
            try:
                found += [_Found(kind, path) for path in look(folder, split) if format != "auto" or _is(kind, path)]
            except NoSuchSplit as error:
                absent = error
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(
            f"{os.path.relpath(f.path, folder)} ({f.format})" if f.path == folder else os.path.relpath(f.path, folder)
            for f in found
        )
        raise DataError(f"{folder}: holds several datasets ({names}): name the file itself, or say the --format")
    if absent is not None:
        raise absent
    # Roboflow and others: a folder for each split, each a dataset of its own.
    inner = {name: folder / name for names in SPLITS.values() for name in names if os.path.isdir(folder / name)}
    holding = {name: home for name, home in inner.items() if _holds_any(home, format)}
    mine = next((home for name, home in holding.items() if name in SPLITS[split]), None)
    if mine is not None:
        return _in_folder(mine, split, format)
    if holding:
        raise NoSuchSplit(f"{folder}: no split {split!r} here; there is: {', '.join(sorted(holding))}")
    raise DataError(f"{folder}: no dataset in this folder; looked for {_LOOKED_FOR}: name the file itself")


def _holds_any(folder: Path, format: str) -> bool:
    for kind, look in _FINDERS.items():
        try:
            if format in ("auto", kind) and any(
                format != "auto" or _is(kind, path) for path in look(folder, "train")
            ):
                return True
        except NoSuchSplit:
            return True
    return False


def _is(kind: str, path: Path) -> bool:
    """Whether a file with a usual name is of the kind: CSV files hold all sorts of things."""
    return kind != "csv" or is_boxes_csv(path)


def _files(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names if os.path.isfile(folder / name)]


def _by_split(folder: Path, files: dict[str, Path], split: str) -> list[Path]:
    """The file of a split, from one for each."""
    mine = [file for name, file in files.items() if name in SPLITS[split]]
    if files and not mine:
        there = ", ".join(file.name for file in files.values())
        raise NoSuchSplit(f"{folder}: no split {split!r} among {there}: name the file itself")
    return mine


def _coco_files(folder: Path, split: str) -> list[Path]:
    found = _files(folder, "annotations.json", "_annotations.coco.json", "result.json")
    for home in (folder, folder / "annotations"):
        instances = {file: file.stem.removeprefix("instances_") for file in sorted(home.glob("instances_*.json"))}
        mine = [file for file, part in instances.items() if part.startswith(SPLITS[split])]
        if instances and not mine and len(instances) > 1 and not found:
            there = ", ".join(file.name for file in instances)
            raise NoSuchSplit(f"{folder}: no split {split!r} among {there}: name the file itself")
        found += mine or (list(instances) if len(instances) == 1 else [])
    return found or _by_split(folder, _split_files(folder, ".json"), split)


def _split_files(folder: Path, suffix: str) -> dict[str, Path]:
    names = dict.fromkeys(name for names in SPLITS.values() for name in names)
    return {name: folder / f"{name}{suffix}" for name in names if os.path.isfile(folder / f"{name}{suffix}")}


def _yolo_files(folder: Path, split: str) -> list[Path]:
    return _files(folder, "data.yaml", "data.yml")


def _voc_folder(folder: Path, split: str) -> list[Path]:
    return [folder] if voc_folders(folder) else []


def _csv_files(folder: Path, split: str) -> list[Path]:
    named = _files(folder, "annotations.csv", "_annotations.csv", "labels.csv")
    return named or _by_split(folder, _split_files(folder, ".csv"), split)


def _mask_folder(folder: Path, split: str) -> list[Path]:
    return [folder] if is_mask_folder(folder) else []


_FINDERS: dict[str, Callable[[Path, str], list[Path]]] = {
    "coco": _coco_files,
    "yolo": _yolo_files,
    "voc": _voc_folder,
    "csv": _csv_files,
    "masks": _mask_folder,
}
