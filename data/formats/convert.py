"""From one format to another: the images put in place, the labels written, and what gets lost said."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np

from data.dataset import Dataset
from data.errors import DataError
from data.files import whole_folder, write_whole
from data.formats.boxes_csv import save_csv
from data.formats.coco import save_coco
from data.formats.references import REFERENCES, content_sha256, leads_out, reference, references_text
from data.formats.repair import Notices
from data.formats.voc_writer import save_voc, voc_cannot_say
from data.formats.yolo_writer import save_yolo
from data.images import IMAGE_SUFFIXES

WritableFormat = Literal["coco", "yolo", "voc", "csv"]

_Places = dict[str, list[str]]  # split -> path of each image, relative to the folder of images


def convert(
    parts: Mapping[str, Dataset],
    target: Path,
    *,
    to: WritableFormat,
    copy: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """Write datasets, one for each split, as a new dataset in another format.

    Images stay where they are, and are referred to: COCO and CSV name them by relative paths, YOLO and VOC,
    which need them in place, by symbolic links; digests beside the references let Swath follow them (see
    `data.formats.references`). With `copy` the new dataset holds them itself. Their folders are kept; two images
    that differ in nothing but the suffix, and names that a format cannot say, get other names, which is counted.

    Args:
        parts: split ("train", "val", "test") -> dataset, at least one.
        target: a folder that is not there yet, or empty. It appears whole or not at all.
        to: the format: coco, yolo, voc or csv.
        copy: copy the images.
        progress: called after each image with (done, total).

    Returns:
        What the format cannot say, and was therefore left out or changed: one line for each kind.

    Raises:
        DataError: the target is taken, or a file cannot be read or written.

    """
    if to not in get_args(WritableFormat):
        raise DataError(f"format {to!r}: use one of {', '.join(get_args(WritableFormat))}")
    target = Path(os.path.abspath(target))
    notices = Notices()
    with whole_folder(target) as staging:
        parts = _same_classes(parts)
        _count_unsayable(parts, to, notices)
        _write(parts, staging, target, to, copy, notices, progress)
    return notices.lines()


def _write(
    parts: Mapping[str, Dataset],
    home: Path,
    target: Path,
    to: WritableFormat,
    copy: bool,
    notices: Notices,
    progress: Callable[[int, int], None] | None,
) -> None:
    folder_of = {split: "JPEGImages" if to == "voc" else "images" for split in parts}
    if to == "yolo":
        folder_of = {split: f"images/{split}" for split in parts}
    real_target = Path(os.path.realpath(target.parent), target.name)
    in_place = copy or to in ("yolo", "voc")
    if in_place:
        places = _places(parts, folder_of, notices)
    else:
        places = {s: [reference(image.path, real_target) for image in d.images] for s, d in parts.items()}
    digests: dict[str, str] = {}
    done, total = 0, sum(map(len, parts.values()))
    for split, dataset in parts.items():
        for image, place in zip(dataset.images, places[split], strict=True):
            relative = f"{folder_of[split]}/{place}" if in_place else place
            if in_place:
                _put(image.path, home / relative, real_target / relative, copy)
            if not copy and to != "coco" and leads_out(image.path, real_target):
                digest = content_sha256(image.path)
                if digest is None:
                    raise DataError(f"{image.path}: cannot be read: copy it there again, or leave it out")
                digests[relative] = digest
            done += 1
            if progress:
                progress(done, total)
    if digests:
        write_whole(home / REFERENCES, references_text(digests))
    if to == "yolo":
        save_yolo(parts, places, home)
    elif to == "voc":
        save_voc(parts, places, home)
    elif to == "csv":
        named = {s: [f"images/{p}" for p in places[s]] if copy else places[s] for s in parts}
        save_csv(parts, named, home)
    else:
        for split, dataset in parts.items():
            if copy:
                paths = [home / folder_of[split] / place for place in places[split]]
                dataset = _at(dataset, paths)
            one = home / "annotations.json"
            save_coco(dataset, one if len(parts) == 1 else home / "annotations" / f"instances_{split}.json")


def _at(dataset: Dataset, paths: Sequence[Path]) -> Dataset:
    images = [replace(image, path=path) for image, path in zip(dataset.images, paths, strict=True)]
    return replace(dataset, images=tuple(images))


def _put(source: Path, file: Path, final: Path, copy: bool) -> None:
    """An image into its place `file`, which will be `final` when the folder has its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(file):  # the same image in two splits
        return
    if copy:
        try:
            shutil.copyfile(source, file)
        except OSError as error:
            raise DataError(f"{source}: cannot be copied to {file.parent} ({error.strerror or error})") from None
        return
    try:
        os.symlink(os.path.relpath(os.path.realpath(source), final.parent), file)
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: symbolic links cannot be made here ({error}): use --copy") from None


def _places(parts: Mapping[str, Dataset], folder_of: Mapping[str, str], notices: Notices) -> _Places:
    """Where each image goes below its folder: its path below what the images have in common, made unique."""
    places: _Places = {}
    chosen: dict[tuple[str, Path], str] = {}
    taken: set[tuple[str, str]] = set()
    for folder in dict.fromkeys(folder_of.values()):
        mine = [split for split in parts if folder_of[split] == folder]
        files = list(dict.fromkeys(image.path for split in mine for image in parts[split].images))
        common = os.path.commonpath([os.path.abspath(file.parent) for file in files]) if files else ""
        for file in files:
            given = Path(os.path.relpath(os.path.abspath(file), common)).as_posix()
            place = PurePosixPath(*map(_sayable, PurePosixPath(given).parts))
            if place.suffix.lower() not in IMAGE_SUFFIXES:
                raise DataError(
                    f"{file}: images are found by their suffix ({', '.join(sorted(IMAGE_SUFFIXES))}): rename it"
                )
            stem, number = place.with_suffix(""), 1
            while (folder, place.with_suffix("").as_posix().casefold()) in taken:
                number += 1
                place = PurePosixPath(f"{stem}_{number}{place.suffix}")
            taken.add((folder, place.with_suffix("").as_posix().casefold()))
            if place.as_posix() != given:
                rest = "given another name: two with the same, or one that labels cannot say"
                notices.count("image", "images", rest, f"{given} -> {place}")
            chosen[folder, file] = place.as_posix()
    for split, dataset in parts.items():
        places[split] = [chosen[folder_of[split], image.path] for image in dataset.images]
    return places


def _sayable(name: str) -> str:
    """A file name that stands in lists and XML, and is no hidden file."""
    broken = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, line ends
    text = "".join("_" if c == "\\" or unicodedata.category(c) in broken or voc_cannot_say(c) else c for c in name)
    text = "_" * (len(text) - len(text.lstrip())) + text.strip() + "_" * (len(text) - len(text.rstrip()))
    return "_" + text[1:] if text.startswith(".") else text


def _same_classes(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The parts under one list of classes: splits of a format without such a list may know different ones."""
    first = next(iter(parts.values()))
    if all((d.class_names, d.category_ids) == (first.class_names, first.category_ids) for d in parts.values()):
        return dict(parts)
    names = tuple(dict.fromkeys(name for dataset in parts.values() for name in dataset.class_names))
    joined = {}
    for split, dataset in parts.items():
        to_joint = np.array([names.index(name) for name in dataset.class_names], np.int64)
        images = tuple(replace(image, labels=to_joint[image.labels]) for image in dataset.images)
        joined[split] = replace(
            dataset, class_names=names, category_ids=tuple(range(1, len(names) + 1)), images=images
        )
    return joined


def _count_unsayable(parts: Mapping[str, Dataset], to: WritableFormat, notices: Notices) -> None:
    """Count what `to` has no way to say. COCO says everything a `Dataset` holds."""
    if to == "coco":
        return
    name = {"yolo": "YOLO", "voc": "Pascal VOC", "csv": "CSV"}[to]
    for dataset in parts.values():
        first_id = 1 if to == "voc" else 0
        if dataset.category_ids != tuple(range(first_id, first_id + len(dataset.class_names))):
            notices.count("dataset", "datasets", f"whose class ids {name} cannot say: numbered anew", dataset.name)
        if [image.image_id for image in dataset.images] != list(range(1, len(dataset) + 1)):
            notices.count("dataset", "datasets", f"whose image ids {name} cannot say: numbered anew", dataset.name)
        for image in dataset.images:
            where, crowd = image.path.name, image.iscrowd
            span = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]
            outlined = ~np.isclose(span[:, 0] * span[:, 1], image.areas_px, rtol=1e-3)
            kept = np.ones(len(crowd), np.bool_) if to == "voc" else ~crowd
            rest = f"whose own area {name} cannot say: the box's area instead"
            notices.count("box", "boxes", rest, where, int((outlined & kept).sum()))
            attributes = list(image.attributes.items())
            if to == "voc":
                attributes = [pair for pair in attributes if any(map(voc_cannot_say, pair))]
            else:
                crowds = int(crowd.sum())
                notices.count("box", "boxes", f"marked iscrowd, which {name} cannot say: left out", where, crowds)
                cut = int((image.truncated & kept).sum())
                notices.count("box", "boxes", f"marked truncated, which {name} cannot say: mark left out", where, cut)
            if attributes:
                rest = f"with attributes that {name} cannot say: attributes left out"
                notices.count("image", "images", rest, where)
