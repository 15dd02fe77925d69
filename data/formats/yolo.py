"""YOLO `data.yaml`: detection boxes, polygons and oriented boxes, read as upright bounding boxes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from data.dataset import SPLITS, Dataset, LabelledImage
from data.errors import DataError, NoSuchSplit
from data.files import read_text
from data.formats.format import Format, ReadOptions, Writer
from data.formats.references import Roots
from data.formats.repair import Notices, Unlabelled, box_areas, count_unlabelled, repair_boxes
from data.formats.search import files_named
from data.formats.yolo_writer import label_file, save_yolo
from data.images import IMAGE_SUFFIXES, image_size_hw

_KEYS = ("train", "val", "valid", "test")
_YAML_LIMIT_BYTES = 4 << 20
_PIXELS_ABOVE = 10.0  # fractions of the image lie in 0..1; no label misses its image by ten widths


def read_yolo(
    data_yaml: Path,
    split: str = "train",
    *,
    unlabelled: Unlabelled = "background",
    images_dir: Path | None = None,
) -> Dataset:
    """Read one split of a YOLO dataset, or a .txt list of images whose `data.yaml` lies beside or above it.

    Lines are `class cx cy w h`, or `class x1 y1 x2 y2 ...` with the corners of an oriented box or a
    polygon, whose bounds are taken; all as fractions of the image as displayed. Images without a
    label file are counted in `notices`.

    Args:
        data_yaml: the YAML with `names`, the splits (a folder, a list of folders or a .txt list of
            images) and perhaps `path`, the folder they are relative to. Or a list itself: paths, or names in
            `images/`, with or without suffix.
        split: "train", "val" ("valid" is the same) or "test".
        unlabelled: what an image without a label file is: "background", or not labelled yet: "skip" it.
        images_dir: a folder outside of the dataset that its links and lists may lead to.

    Raises:
        NoSuchSplit: the split is not there.
        DataError: the YAML, a label line or an image is faulty, or leads out of the dataset (see
            `data.formats.references`).

    """
    path = Path(os.path.abspath(data_yaml))
    listing = path if path.suffix.lower() == ".txt" else None
    if listing:
        path = _yaml_near(listing)
    content = _content(path)
    names = _names(content, path)
    notices = Notices()
    root = _root(content, path, notices)
    found = {key: _places(content[key], root, path) for key in _KEYS if content.get(key)}
    present = {key: places for key, places in found.items() if all(map(os.path.exists, places))}
    if listing:
        present = {split: [listing]}
    key = next((key for key in SPLITS[split] if key in present), None)
    if key is None:
        raise NoSuchSplit(_absent(split, found, present, path))
    roots = Roots(path.parent, [root], images_dir)
    files: list[Path] = []
    for place in present[key]:
        roots.check(place, f"{path}: split {split!r}")
        files += roots.images_in(place) if place.is_dir() else _listed_images(place, root, notices)
    files = list(dict.fromkeys(files))
    if not files:
        raise DataError(f"{path}: split {split!r} is empty: no images in {', '.join(map(str, present[key]))}")
    labels = [label_file(file) for file in files]
    if not any(label.parent.is_dir() for label in labels):
        raise DataError(f"{path}: no labels for split {split!r}: expected for example {labels[0]}")
    if all(place.is_dir() for place in present[key]):
        _count_orphans(labels, notices)
    pairs = list(enumerate(zip(files, labels, strict=True), start=1))
    without = [file for _, (file, label) in pairs if not os.path.lexists(label)]
    if unlabelled == "skip":
        pairs = [pair for pair in pairs if os.path.lexists(pair[1][1])]
    if not pairs:
        raise DataError(f"{path}: split {split!r} is empty: no image has a label file, and such are left out")
    keypoints = "kpt_shape" in content
    label_of = {class_id: label for label, class_id in enumerate(names)}

    def image(pair: tuple[int, tuple[Path, Path]]) -> LabelledImage:
        image_id, (file, label) = pair
        return _image(image_id, file, label, label_of, keypoints, roots, notices)

    images = tuple(p for pair in pairs for _, p in notices.each([pair], image, str(pair[1][0]), "image-unreadable"))
    count_unlabelled(without, "label file", unlabelled, notices)
    name = str(data_yaml) if listing else f"{data_yaml}[{split}]"
    return Dataset(name, tuple(names.values()), tuple(names), images, notices.lines())


def _yaml_near(listing: Path) -> Path:
    """The `data.yaml` that names the classes of a list of images: beside it, or up to two folders above."""
    if not listing.is_file():
        raise DataError(f"{listing}: no such list of images")
    near = [home / name for home in list(listing.parents)[:3] for name in ("data.yaml", "data.yml")]
    found = next((file for file in near if file.is_file()), None)
    if found is None:
        raise DataError(f"{listing}: a list of images needs class names: put a data.yaml with names beside it")
    return found


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: ten lines of them can stand for more text than a memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) do not belong into a data.yaml", mark)
        return super().compose_node(parent, index)


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.load(read_text(path, kind="a data.yaml", limit_bytes=_YAML_LIMIT_BYTES), Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}: not valid YAML{place}: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError):  # a date that is none, brackets a thousand deep
        raise DataError(f"{path}: not a YOLO data.yaml: a value in it cannot be read") from None
    if not isinstance(content, dict) or not content.get("names"):
        raise DataError(f"{path}: not a YOLO data.yaml (needs names, and train or val)")
    return content


def _names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Class id -> name, ordered by id."""
    given = content["names"]
    pairs = list(enumerate(given)) if isinstance(given, list) else None
    if isinstance(given, dict):
        pairs = list(given.items())
    if pairs is None or not all(
        isinstance(key, int) and key >= 0 and not isinstance(name, dict | list | set) for key, name in pairs
    ):
        raise DataError(f"{path}: names must be a list, or a mapping from class numbers to names, got {given!r}")
    names = {key: str(name) for key, name in sorted(pairs)}
    if len(set(names.values())) != len(names):
        raise DataError(f"{path}: a class name occurs twice: {', '.join(names.values())}")
    if "nc" in content and content["nc"] != len(names):
        raise DataError(f"{path}: nc is {content['nc']} but there are {len(names)} names: correct one of them")
    return names


def _root(content: Mapping[str, Any], path: Path, notices: Notices) -> Path:
    """The folder that splits are relative to."""
    given = content.get("path")
    if given is None:
        return path.parent
    if not isinstance(given, str):
        raise DataError(f"{path}: path must be a folder, got {given!r}")
    root = Path(os.path.abspath(path.parent / given))
    if os.path.isdir(root):
        if root == Path(root.anchor):
            raise DataError(f"{path}: path {given!r} takes in the whole disk: name the dataset's own folder")
        home = os.path.realpath(path.parent)
        if os.path.commonpath([home, os.path.realpath(root)]) != home:
            notices.add(f"images and labels are read from {root}, as path in {path.name} states")
        return root
    notices.add(f"path {str(given)!r} of {path.name} does not exist: taken as {path.parent}")
    return path.parent


def _places(given: Any, root: Path, path: Path) -> list[Path]:
    """The folders or .txt lists of one split; they need not exist."""
    entries = given if isinstance(given, list) else [given]
    if not all(isinstance(entry, str) for entry in entries):
        raise DataError(f"{path}: a split must be a folder, a list of folders or a .txt list, got {given!r}")
    places = []
    for entry in entries:
        place = root / entry
        # Roboflow writes `../train/images` although the folder lies beside the YAML.
        inside = root / PurePosixPath(*(part for part in PurePosixPath(entry).parts if part != ".."))
        places.append(Path(os.path.abspath(inside if os.path.exists(inside) else place)))
    return places


def _absent(
    split: str, found: Mapping[str, Sequence[Path]], present: Mapping[str, Sequence[Path]], path: Path
) -> str:
    there = f"there is: {', '.join(present)}" if present else "nor is any other"
    named = next((found[key] for key in SPLITS[split] if key in found), None)
    if named is None:
        return f"{path}: names no split {split!r}; {there}"
    missing = next(place for place in named if not os.path.exists(place))
    return f"{path}: split {split!r} is not there ({missing} does not exist); {there}"


def _listed_images(listing: Path, root: Path, notices: Notices) -> list[Path]:
    files = []
    for number, line in enumerate(_lines(listing), start=1):
        if line.strip():
            entry = line.strip()
            # `./` means beside the list; anything else is relative to the dataset's folder.
            homes = [listing.parent, root] if entry.startswith("./") else [root, listing.parent]
            if "/" not in entry:  # published lists often hold bare names, even without their suffix
                homes += [home / "images" for home in homes]
            names = [entry, *(f"{entry}{suffix}" for suffix in sorted(IMAGE_SUFFIXES))]
            names = names[:1] if Path(entry).suffix.lower() in IMAGE_SUFFIXES else names
            possible = [Path(os.path.abspath(home / name)) for name in names for home in homes]
            file = next((c for c in possible if os.path.exists(c) and not os.path.isdir(c)), None)
            if file is None:
                error = DataError(f"{listing}: line {number}: no such image: {possible[0]}")
                notices.fault(error, str(possible[0]), "image-missing")
                continue
            files.append(file)
    return files


def _count_orphans(labels: Sequence[Path], notices: Notices) -> None:
    """Count label files whose image is missing: their boxes must not vanish silently."""
    expected = set(labels)
    for folder in sorted({label.parent for label in labels}):
        orphans = sorted(f for f in folder.glob("*.txt") if f not in expected and f.name != "classes.txt")
        if orphans:
            rest = "without an image: not used"
            notices.count("label file", "label files", rest, orphans[0].name, len(orphans))


def _image(
    image_id: int,
    file: Path,
    label: Path,
    label_of: Mapping[int, int],
    keypoints: bool,
    roots: Roots,
    notices: Notices,
) -> LabelledImage:
    roots.check(file, str(label))
    size_hw = image_size_hw(file)
    labels: list[int] = []
    boxes: list[tuple[float, float, float, float]] = []
    if os.path.lexists(label):
        roots.check(label, str(file))

        def read(numbered: tuple[int, str]) -> tuple[int, tuple[float, float, float, float]]:
            number, line = numbered
            class_id, box = _line(line.split(), keypoints, f"{label}: line {number}")
            if class_id not in label_of:
                known = ", ".join(map(str, label_of))
                line = f"{label}: line {number}: class {class_id} is not in names (known: {known})"
                raise DataError(line, kind="class-unknown")
            return label_of[class_id], box

        lines = [(number, line) for number, line in enumerate(_lines(label), start=1) if line.strip()]
        for _, (class_label, box) in notices.each(lines, read, str(file)):
            labels.append(class_label)
            boxes.append(box)
    height, width = size_hw
    absolute = np.array(boxes, np.float64).reshape(-1, 4) * np.array([width, height, width, height], np.float64)
    kept, keep = repair_boxes(absolute, size_hw, notices, str(label), file)
    areas = box_areas(kept)
    crowd = np.zeros(len(kept), np.bool_)
    return LabelledImage(image_id, file, size_hw, kept, np.array(labels, np.int64)[keep], areas, crowd)


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


def _lines(file: Path) -> list[str]:
    return read_text(file, kind="a YOLO text file").splitlines()


def _finds(folder: Path, split: str) -> list[Path]:
    return files_named(folder, "data.yaml", "data.yml")


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_yolo(path, options.split, unlabelled=options.unlabelled, images_dir=options.images_dir)


KIND = Format(
    "yolo",
    "YOLO",
    "data.yaml",
    _finds,
    _reads,
    suffixes=(".yaml", ".yml", ".txt"),
    writes=Writer(save_yolo, image_folder="images/{split}", images_inside=True),
)
