"""YOLO: detection boxes, polygons and oriented boxes, read as upright bounding boxes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError, NoSuchSplit, PartMissing
from data.formats.format import Format, ReadOptions, Writer
from data.formats.names import Files, names_in, pairs, same, split_of
from data.formats.references import Roots, count_foreign
from data.formats.repair import Notices, Unlabelled, box_areas, count_unlabelled, repair_boxes
from data.formats.text import label_text
from data.formats.yolo_description import (
    CLASS_FILES,
    Description,
    describe,
    describing,
    description_files,
    place_of,
)
from data.formats.yolo_writer import label_file, save_yolo
from data.images import IMAGE_SUFFIXES, image_size_hw

_PIXELS_ABOVE = 10.0  # fractions of the image lie in 0..1; no label misses its image by ten widths


@dataclass(frozen=True)
class _Reading:
    """What all images of a dataset are read with."""

    described: Description
    roots: Roots
    files: Files
    notices: Notices


def read_yolo(
    source: Path,
    split: str = "train",
    *,
    unlabelled: Unlabelled = "background",
    images_dir: Path | None = None,
) -> Dataset:
    """Read one split of a YOLO dataset, or a .txt list of images.

    Lines are `class cx cy w h`, or `class x1 y1 x2 y2 ...` with the corners of an oriented box or a
    polygon, whose bounds are taken; all as fractions of the image as displayed. Labels lie in `labels/` beside
    `images/`, or beside the images. Images without a label file are counted in `notices`.

    Args:
        source: a `data.yaml` with `names`, the splits (a folder, a list of folders or a .txt list of
            images) and perhaps `path`, the folder they are relative to; Darknet's `obj.data`; or the class names, one
            a line, of a folder that nothing else describes (`classes.txt`, `obj.names`). Or a list of images with
            one of these beside or above it: paths, or names in `images/`, with or without suffix.
        split: "train", "val" ("valid" is the same) or "test".
        unlabelled: what an image without a label file is: "background", or not labelled yet: "skip" it.
        images_dir: a folder outside of the dataset that its links and lists may lead to.

    Raises:
        NoSuchSplit: the split is not there; `PartMissing` where it is named, but what it names is not there.
        DataError: the description, a label line or an image is faulty, or leads out of the dataset (see
            `data.formats.references`).

    """
    notices = Notices()
    path = Path(os.path.abspath(source))
    listing = path if path.suffix.lower() == ".txt" and same(path.name) not in CLASS_FILES else None
    described = describe(describing(listing) if listing else path, notices)
    path = described.path
    roots = Roots(path.parent, [described.root], images_dir)
    reading = _Reading(described, roots, Files(roots, notices), notices)
    places = [listing] if listing else _places(split, reading)
    files: list[Path] = []
    for place in places:
        roots.check(place, f"{path}: split {split!r}")
        files += roots.images_in(place) if place.is_dir() else _listed_images(place, reading)
    given, files = files, list(dict.fromkeys(files))
    notices.count("entry", "entries", "for an image that is listed already", path.name, len(given) - len(files))
    if not files:
        raise DataError(f"{path}: split {split!r} is empty: no images in {', '.join(map(str, places))}")
    labels = _label_files(files, all(place.is_dir() for place in places), reading)
    if unlabelled == "background" and not any(labels.values()):
        expected = _label_folder(files[0].parent, reading.files) / f"{files[0].stem}.txt"
        raise DataError(
            f"{path}: no labels for split {split!r}: none of {len(files)} images has a label file; expected for "
            f"example {expected}; an image without objects has an empty one"
        )
    wanted = [pair for pair in enumerate(files, start=1) if labels[pair[1]] or unlabelled == "background"]
    if not wanted:
        raise DataError(f"{path}: split {split!r} is empty: no image has a label file, and such are left out")

    def image(numbered: tuple[int, Path]) -> LabelledImage:
        image_id, file = numbered
        return _image(image_id, file, labels[file], reading)

    images = tuple(p for pair in wanted for _, p in notices.each([pair], image, str(pair[1]), "image-unreadable"))
    count_foreign(roots, notices)
    count_unlabelled([file for file in files if labels[file] is None], "label file", unlabelled, notices)
    name = str(source) if listing or "" in described.parts else f"{source}[{split}]"
    return Dataset(name, described.classes.names, described.classes.ids, images, notices.lines())


def _places(split: str, reading: _Reading) -> list[Path]:
    """The folders and .txt lists of a split."""
    described = reading.described
    wanted = split_of(split) or split
    entries = described.parts.get("") or described.parts.get(wanted)
    if entries is None:
        raise NoSuchSplit(f"{described.path}: names no split {split!r}; {_there(reading)}")
    try:
        return [place_of(entry, wanted, described, reading.files, reading.notices) for entry in entries]
    except PartMissing as error:
        raise PartMissing(f"{error}; {_there(reading)}", near=error.near) from None


def _there(reading: _Reading) -> str:
    """Which splits there are, for a message."""
    present = []
    for split, entries in reading.described.parts.items():
        try:
            for entry in entries:
                place_of(entry, split, reading.described, reading.files, Notices(every=None))
        except DataError:
            continue
        present.append(split)
    return f"there is: {', '.join(present)}" if present else "nor is any other"


def _listed_images(listing: Path, reading: _Reading) -> list[Path]:
    files = []
    root = reading.described.root
    for number, line in enumerate(
        label_text(listing, reading.notices, kind="a list of images").splitlines(), start=1
    ):
        entry = line.strip()
        if not entry:
            continue
        if entry.replace("\\", "/").rpartition("/")[2].startswith("._"):
            reading.notices.count("entry", "entries", "for a hidden file of macOS: left out", entry)
            continue
        # `./` means beside the list; anything else is relative to the dataset's folder.
        homes = [listing.parent, root] if entry.startswith("./") else [root, listing.parent]
        if "/" not in entry:  # published lists often hold bare names, even without their suffix
            homes += [home / "images" for home in homes]
        names = [entry, *(f"{entry}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))]
        names = names[:1] if Path(entry).suffix.lower() in IMAGE_SUFFIXES else names
        where = f"{listing}: line {number}"
        try:
            found = (reading.files.find(name, list(dict.fromkeys(homes)), where) for name in names)
            file = next((file for file in found if file), None)
            if file is None:
                missing = Path(os.path.abspath(homes[0] / names[0]))
                raise DataError(f"{where}: no such image: {missing}", kind="image-missing")
        except DataError as error:
            reading.notices.fault(error, entry)
            continue
        files.append(file)
    return files


def _label_files(images: Sequence[Path], whole: bool, reading: _Reading) -> dict[Path, Path | None]:
    """Image -> its label file, None where it has none.

    Where the images are `whole`, not listed, label files without an image are counted.
    """
    by_folder: dict[Path, dict[str, Path]] = {}
    for file in images:
        named = by_folder.setdefault(file.parent, {})
        other = named.setdefault(file.stem, file)
        if other != file:
            line = f"{other} and {file.name}: two images for the same labels: rename or remove one of them"
            reading.notices.fault(DataError(line, kind="image-ambiguous"), str(file))
    labels: dict[Path, Path | None] = dict.fromkeys(images)
    used: set[Path] = set()
    homes: list[Path] = []
    for folder, named in by_folder.items():
        for home in dict.fromkeys((_label_folder(folder, reading.files), folder)):
            there = _texts(home)
            homes.append(home)
            for stem, label in pairs([s for s, f in named.items() if labels[f] is None], there, str(home)).items():
                labels[named[stem]] = there[label]
                used.add(there[label])
                if stem != label:
                    rest = "found under another spelling of its image's name (Unicode form or case)"
                    reading.notices.count("label file", "label files", rest, f"{label}: {named[stem].name}")
    if whole:
        texts = sorted(file for home in dict.fromkeys(homes) for file in _texts(home).values())
        orphans = [file for file in texts if file not in used and _is_label(file)]
        if orphans:  # their boxes must not vanish silently
            rest = "without an image: not used"
            reading.notices.count(
                "label file", "label files", rest, orphans[0].name, len(orphans), kind="label-unused"
            )
    return labels


def _label_folder(folder: Path, files: Files) -> Path:
    """Where the labels of the images in `folder` lie: the last folder `images` of its path becomes `labels`."""
    parts = folder.parts
    for index in range(len(parts) - 1, -1, -1):
        if same(parts[index]) == "images":
            home = Path(*parts[:index])
            for part in ("labels", *parts[index + 1 :]):
                home = next(iter(files.like(home, part)), home / part)
            return home
    return folder


def _texts(folder: Path) -> dict[str, Path]:
    """Name without suffix -> label file in `folder`."""
    files = [folder / name for name in names_in(folder) if name[-4:].lower() == ".txt"]
    return {file.stem: file for file in files if same(file.name) not in CLASS_FILES}


def _is_label(file: Path) -> bool:
    """Whether a text begins as labels do: `readme.txt` and lists of images are none."""
    try:
        with file.open("rb") as content:
            first = content.read(1 << 12).split()[:5]
        return len(first) == 5 and all(np.isfinite(float(token)) for token in first)
    except (OSError, ValueError):
        return False


def _image(image_id: int, file: Path, label: Path | None, reading: _Reading) -> LabelledImage:
    notices, label_of = reading.notices, reading.described.classes.label_of
    where = label or label_file(file)
    reading.roots.check(file, str(where))
    size_hw = image_size_hw(file)
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    if label is not None:
        reading.roots.check(label, str(file))

        def read(numbered: tuple[int, str]) -> tuple[int, tuple[float, float, float, float]]:
            number, line = numbered
            class_id, box = _line(line.split(), reading.described.keypoints, f"{label}: line {number}")
            return _known(class_id, label_of, f"{label}: line {number}"), box

        text = label_text(label, notices, kind="a YOLO text file")
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        for _, (class_label, box) in notices.each(lines, read, str(file)):
            labels.append(class_label)
            boxes.append(box)
    height, width = size_hw
    absolute = np.array(boxes, np.float64).reshape(-1, 4) * np.array([width, height, width, height], np.float64)
    kept, keep = repair_boxes(absolute, size_hw, notices, str(where), file)
    areas = box_areas(kept)
    crowd = np.zeros(len(kept), np.bool_)
    return LabelledImage(image_id, file, size_hw, kept, np.array(labels, np.int64)[keep], areas, crowd)


def _known(class_id: int, label_of: Mapping[int, int], where: str) -> int:
    if class_id not in label_of:
        known = ", ".join(map(str, label_of))
        raise DataError(f"{where}: class {class_id} is not in names (known: {known})", kind="class-unknown")
    return label_of[class_id]


def _line(tokens: Sequence[str], keypoints: bool, where: str) -> tuple[int, tuple[float, float, float, float]]:
    """One label line -> class id and x1, y1, x2, y2 as fractions of the image."""
    try:
        values = [float(token) for token in tokens]
    except ValueError:
        raise DataError(f"{where}: not numbers: {' '.join(tokens)[:80]!r}") from None
    if not np.isfinite(values).all():
        line = f"{where}: a value is not finite (NaN or infinite): correct or remove the line"
        raise DataError(line, kind="box-not-finite")
    class_id, coordinates = values[0], values[1:5] if keypoints else values[1:]
    if len(coordinates) != 4 and (len(coordinates) < 6 or len(coordinates) % 2):
        raise DataError(
            f"{where}: {len(tokens)} values; expected class cx cy w h, or class and three or more corners x y"
        )
    if class_id != int(class_id) or class_id < 0:
        raise DataError(f"{where}: the class must be a whole number from 0, got {tokens[0]}")
    if max(map(abs, coordinates)) > _PIXELS_ABOVE:
        raise DataError(f"{where}: coordinates look like pixels; YOLO has fractions of the image, 0 to 1")
    if len(coordinates) == 4:
        centre_x, centre_y, width, height = coordinates
        if width < 0 or height < 0:
            raise DataError(f"{where}: negative width or height: correct or remove the line", kind="box-swapped")
        box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    else:
        along_x, along_y = coordinates[0::2], coordinates[1::2]
        box = (min(along_x), min(along_y), max(along_x), max(along_y))
    return int(class_id), box


def _finds(folder: Path, split: str) -> list[Path]:
    return description_files(folder)


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_yolo(path, options.split, unlabelled=options.unlabelled, images_dir=options.images_dir)


KIND = Format(
    "yolo",
    "YOLO",
    "data.yaml, obj.data, labels/ with classes.txt",
    _finds,
    _reads,
    suffixes=(".yaml", ".yml", ".txt", ".data", ".names"),
    writes=Writer(save_yolo, image_folder="images/{split}", images_inside=True),
)
