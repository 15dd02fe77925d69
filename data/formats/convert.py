"""From one format to another: images put in place, labels written, and what the format cannot represent counted."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from data.dataset import Dataset, same_classes
from data.errors import DataError
from data.files import whole_folder, write_whole
from data.formats.classes import class_name
from data.formats.format import Format, Writer
from data.formats.kinds import KINDS, WRITABLE
from data.formats.load import load_dataset
from data.formats.references import REFERENCES, content_sha256, leads_out, reference, references_text
from data.formats.repair import Notices
from data.images import IMAGE_SUFFIXES

_Places = dict[str, list[str]]  # split -> path of each image, relative to the dataset's folder


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        images: how many, in all parts, counted by reading them back.
        boxes: likewise.
        notices: what the format cannot represent, and was therefore left out or changed: one line for each kind.

    """

    images: int
    boxes: int
    notices: tuple[str, ...]


def convert(
    parts: Mapping[str, Dataset],
    target: Path,
    *,
    to: str,
    copy: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write datasets, one for each split, as a new dataset in another format, and read it back.

    Images stay where they are, and are referred to: COCO and CSV name them by relative paths, YOLO and VOC,
    which need them in place, by symbolic links; digests beside the references let Swath follow them (see
    `data.formats.references`). With `copy` the new dataset holds them itself. Their folders are kept; two images
    whose paths differ only in the suffix, and names that a format cannot represent, are renamed, which is counted.

    Args:
        parts: split ("train", "val", "test") -> dataset, at least one.
        target: a folder that is not there yet, or empty. It appears whole or not at all.
        to: the name of a format of `data.formats.KINDS` that can be written.
        copy: copy the images.
        progress: called after each image with (done, total).

    Raises:
        DataError: there is no such format, the target is taken, a file cannot be read or written, or what is read
            back is not what was to be written; then nothing is left of it.

    """
    kind = next((kind for kind in KINDS if kind.name == to), None)
    if kind is None or kind.writes is None:
        raise DataError(f"format {to!r}: use one of {', '.join(WRITABLE)}")
    window = next((image for part in parts.values() for image in part.images if image.window is not None), None)
    if window is not None:
        raise DataError(
            f"{window.path}: a window of a photo is no image of its own: write the tiles (swath data tile)"
        )
    for dataset in parts.values():
        twice = [path for path, n in Counter(image.path for image in dataset.images).items() if n > 1]
        if twice:
            raise DataError(
                f"{twice[0]}: {dataset.name} holds it twice: one file cannot have the boxes of two images"
            )
    target = Path(os.path.abspath(target))
    notices = Notices()
    with whole_folder(target) as staging:
        parts = _named(same_classes(parts), notices)
        _count_lost(parts, kind, kind.writes, notices)
        places = _placed(parts, kind.writes, staging, target, copy, notices, progress)
        kind.writes.save(parts, places, staging)
        images, boxes = _read_back(parts, kind, kind.writes, staging)
    return Converted(images, boxes, notices.lines())


def _named(parts: Mapping[str, Dataset], notices: Notices) -> dict[str, Dataset]:
    """The parts with class names as every reader takes them."""
    given = next(iter(parts.values())).class_names
    names = tuple(map(class_name, given))
    where = next(iter(parts.values())).name
    if not all(names) or len(set(names)) < len(names):
        fault = "two classes differ in white space only" if all(names) else "a class has an empty name"
        raise DataError(f"{where}: {fault}: rename one in the labels")
    changed = [(old, new) for old, new in zip(given, names, strict=True) if old != new]
    for old, new in changed:
        notices.count("class", "classes", "whose name holds other white space: written without", f"{old!r}: {new}")
    return (
        {split: replace(dataset, class_names=names) for split, dataset in parts.items()} if changed else dict(parts)
    )


def _read_back(parts: Mapping[str, Dataset], kind: Format, writer: Writer, home: Path) -> tuple[int, int]:
    """Number of images and boxes that the new dataset is read with.

    Raises:
        DataError: they are not those that were to be written.

    """
    images = boxes = 0
    for split, dataset in parts.items():
        read = load_dataset(home, split=split, format=kind.name)
        wanted, found = _tally(dataset, "crowds" in writer.represents), _tally(read, True)
        if wanted != found:
            (n, counts), (m, others) = found, wanted
            raise DataError(
                f"{dataset.name}: written as {kind.title}, {n} images and {sum(counts.values())} boxes are read "
                f"back, where {m} and {sum(others.values())} were to be written: nothing is left of it"
            )
        images, boxes = images + len(read), boxes + read.box_count
    return images, boxes


def _tally(dataset: Dataset, crowds: bool) -> tuple[int, Counter[str]]:
    """Number of images, and of boxes of each class."""
    labels = (label for image in dataset.images for label in image.labels[crowds | ~image.iscrowd].tolist())
    return len(dataset), Counter(dataset.class_names[label] for label in labels)


def _placed(
    parts: Mapping[str, Dataset],
    writer: Writer,
    home: Path,
    target: Path,
    copy: bool,
    notices: Notices,
    progress: Callable[[int, int], None] | None,
) -> _Places:
    """Copy or link the images into `home`, which becomes `target`, or leave them; where each is, relative to it."""
    real_target = Path(os.path.realpath(target.parent), target.name)
    in_place = copy or writer.images_inside
    if in_place:
        places = _places(parts, {split: writer.image_folder.format(split=split) for split in parts}, notices)
    else:
        places = {s: [reference(image.path, real_target) for image in d.images] for s, d in parts.items()}
    digests: dict[str, str] = {}
    done, total = 0, sum(map(len, parts.values()))
    for split, dataset in parts.items():
        for image, place in zip(dataset.images, places[split], strict=True):
            if in_place:
                _put(image.path, home / place, real_target / place, copy)
            if not copy and not writer.own_digests and leads_out(image.path, real_target):
                digest = content_sha256(image.path)
                if digest is None:
                    raise DataError(f"{image.path}: cannot be read: copy it there again, or leave it out")
                digests[place] = digest
            done += 1
            if progress:
                progress(done, total)
    if digests:
        write_whole(home / REFERENCES, references_text(digests))
    return places


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
    """Where each image goes: its folder, then its path below the folder that all images share, made unique."""
    places: _Places = {}
    chosen: dict[tuple[str, Path], str] = {}
    taken: set[tuple[str, str]] = set()
    for folder in dict.fromkeys(folder_of.values()):
        mine = [split for split in parts if folder_of[split] == folder]
        files = list(dict.fromkeys(image.path for split in mine for image in parts[split].images))
        common = os.path.commonpath([os.path.abspath(file.parent) for file in files]) if files else ""
        for file in files:
            given = Path(os.path.relpath(os.path.abspath(file), common)).as_posix()
            place = PurePosixPath(*map(_plain, PurePosixPath(given).parts))
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
                rest = "renamed: two had the same name, or one that label files cannot hold"
                notices.count("image", "images", rest, f"{given} -> {place}")
            chosen[folder, file] = f"{folder}/{place.as_posix()}"
    for split, dataset in parts.items():
        places[split] = [chosen[folder_of[split], image.path] for image in dataset.images]
    return places


def _plain(name: str) -> str:
    """A file name that lists and XML can hold, and that is no hidden file."""
    broken = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, line ends
    not_in_xml = "\\\ufffe\uffff"
    text = "".join("_" if c in not_in_xml or unicodedata.category(c) in broken else c for c in name)
    text = "_" * (len(text) - len(text.lstrip())) + text.strip() + "_" * (len(text) - len(text.rstrip()))
    return "_" + text[1:] if text.startswith(".") else text


def _count_lost(parts: Mapping[str, Dataset], kind: Format, writer: Writer, notices: Notices) -> None:
    """Count what the format cannot represent."""
    name, kept = kind.title, writer.represents
    for dataset in parts.values():
        first = writer.first_class_id
        if "class ids" not in kept and dataset.category_ids != tuple(range(first, first + len(dataset.class_names))):
            rest = f"whose class ids {name} cannot represent: renumbered"
            notices.count("dataset", "datasets", rest, dataset.name)
        in_order = list(range(1, len(dataset) + 1))
        if "image ids" not in kept and [image.image_id for image in dataset.images] != in_order:
            rest = f"whose image ids {name} cannot represent: renumbered"
            notices.count("dataset", "datasets", rest, dataset.name)
        for image in dataset.images:
            where, crowd = image.path.name, image.iscrowd
            written = np.ones(len(crowd), np.bool_) if "crowds" in kept else ~crowd
            if "areas" not in kept:
                span = image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]
                outlined = ~np.isclose(span[:, 0] * span[:, 1], image.areas_px, rtol=1e-3)
                rest = f"whose own area {name} cannot represent: the box's area instead"
                notices.count("box", "boxes", rest, where, int((outlined & written).sum()))
            if "crowds" not in kept:
                rest = f"marked iscrowd, which {name} cannot represent: left out"
                notices.count("box", "boxes", rest, where, int(crowd.sum()))
            if "truncated" not in kept:
                rest = f"marked truncated, which {name} cannot represent: mark left out"
                notices.count("box", "boxes", rest, where, int((image.truncated & written).sum()))
            lost = [pair for pair in image.attributes.items() if not all(map(writer.can_write, pair))]
            if lost if "attributes" in kept else image.attributes:
                rest = f"with attributes that {name} cannot represent: attributes left out"
                notices.count("image", "images", rest, where)
