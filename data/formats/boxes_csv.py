"""CSV: one box a line, `path,x1,y1,x2,y2,class`, read and written.

A first line that names columns may name them in another order, and more of them. A line with a path and nothing
else is an image without boxes: background. Coordinates are absolute pixels of the image as displayed, corners
continuous. Classes are listed in `classes.csv` (`name,id`, as for RetinaNet) or `classes.txt` (one a line) beside
the file; without such a list they are those that occur, by the alphabet.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import read_text, write_whole
from data.formats.format import Format, ReadOptions, Writer
from data.formats.references import Roots
from data.formats.repair import Notices, box_areas, repair_boxes
from data.formats.search import files_named, of_split, split_files
from data.images import image_size_hw

_COLUMNS = ("path", "x1", "y1", "x2", "y2", "class")
_ALSO = {
    "path": ("filename", "file_name", "file", "image", "image_path", "img_path"),
    "x1": ("xmin", "x_min", "left"),
    "y1": ("ymin", "y_min", "top"),
    "x2": ("xmax", "x_max", "right"),
    "y2": ("ymax", "y_max", "bottom"),
    "class": ("label", "class_name", "name"),
}
_Row = tuple[str, tuple[float, float, float, float] | None, str]


def read_csv(path: Path, images_dir: Path | None = None) -> Dataset:
    """Read boxes from a CSV.

    Args:
        path: the CSV, UTF-8, comma-separated. Images are looked for beside it and in `images/` beside it.
        images_dir: the folder that paths are relative to, where it is none of those.

    Raises:
        DataError: a line or an image is faulty, or leads out of the dataset (see `data.formats.references`).

    """
    path = Path(path)
    rows = _rows(path)
    names = _class_list(path.parent, [name for _, box, name in rows if box is not None])
    label_of = {name: label for label, name in enumerate(names)}
    homes = [path.parent, path.parent / "images"]
    homes = homes if images_dir is None else [Path(images_dir), *homes]
    roots = Roots(path.parent, homes, images_dir)
    boxes_of: dict[str, list[tuple[tuple[float, float, float, float], int]]] = {}
    for name, box, class_name in rows:
        boxes_of.setdefault(name, [])
        if box is not None:
            boxes_of[name].append((box, label_of[class_name]))
    notices = Notices()
    images = []
    for image_id, (name, found) in enumerate(boxes_of.items(), start=1):
        possible = [_file(home, name) for home in homes]
        file = next((c for c in possible if os.path.exists(c) and not os.path.isdir(c)), None)
        if file is None:
            error = DataError(f"{path}: no such image: {possible[0]}: copy it there, or remove its lines")
            notices.fault(error, str(possible[0]), "image-missing")
            continue
        roots.check(file, str(path), roots.digest(name))
        header = notices.each([file], image_size_hw, str(file), "image-unreadable")
        if not header:
            continue
        size_hw = header[0][1]
        boxes = np.array([box for box, _ in found], np.float64).reshape(-1, 4)
        kept, keep = repair_boxes(boxes, size_hw, notices, str(file))
        labels = np.array([label for _, label in found], np.int64)[keep]
        areas = box_areas(kept)
        images.append(LabelledImage(image_id, file, size_hw, kept, labels, areas, np.zeros(len(kept), np.bool_)))
    return Dataset(str(path), names, tuple(range(len(names))), tuple(images), notices.lines())


def save_csv(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write datasets as `train.csv`, `val.csv`, ... and their `classes.csv`; crowd boxes are left out.

    Args:
        parts: split -> dataset; all with the same classes.
        places: for each split what its images' paths shall be, relative to `home`, in order.
        home: the dataset's folder.

    Raises:
        DataError: a class has no name, or a file cannot be written.

    """
    names = next(iter(parts.values())).class_names
    if not all(names):
        raise DataError(f"{home}: a class has an empty name, which a CSV cannot represent: name it")
    for split, dataset in parts.items():
        rows: list[list[object]] = [list(_COLUMNS)]
        for image, place in zip(dataset.images, places[split], strict=True):
            wanted = ~image.iscrowd
            for box, label in zip(image.boxes_xyxy[wanted], image.labels[wanted], strict=True):
                # The shortest digits that give the same float32 again.
                corners = [np.format_float_positional(v, trim="-") for v in box]
                rows.append([place, *corners, names[label]])
            if not wanted.any():
                rows.append([place, "", "", "", "", ""])
        write_whole(home / f"{split}.csv", _text(rows))
    write_whole(home / "classes.csv", _text([[name, label] for label, name in enumerate(names)]))


def _file(home: Path, name: str) -> Path:
    if ".." in name:  # the system goes up from where a linked folder really lies
        home = Path(os.path.realpath(home))
    file = Path(os.path.abspath(home / name))
    return file if os.path.lexists(file) else Path(os.path.abspath(home / name.replace("\\", "/")))


def is_boxes_csv(path: Path) -> bool:
    """Whether a file's first line is that of such a CSV."""
    try:
        with path.open("rb") as file:
            first = file.read(1 << 16).decode("utf-8-sig", "replace").splitlines()[:1]
        row = next(csv.reader(first), [])
    except (OSError, csv.Error):
        return False
    return _order(row) is not None or len(row) == len(_COLUMNS)


def _text(rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _rows(path: Path) -> list[_Row]:
    table = _table(path)
    if not table:
        raise DataError(f"{path}: the CSV is empty: it needs lines of {','.join(_COLUMNS)}")
    order = _order(table[0][1])
    if order is None and len(table[0][1]) == len(_COLUMNS) and not _is_number(table[0][1][1]) and table[0][1][1]:
        raise DataError(f"{path}: line 1: unknown columns {', '.join(table[0][1])}; name them {','.join(_COLUMNS)}")
    rows = [_row(cells, order, f"{path}: line {number}") for number, cells in table[order is not None :]]
    if not rows:
        raise DataError(f"{path}: the dataset is empty (a header line and nothing below)")
    return rows


def _table(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(read_text(path, kind="a CSV"), newline=""), strict=True)
    table = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not valid CSV ({error})") from None
    return table


def _order(head: Sequence[str]) -> tuple[int, ...] | None:
    """The place of each of `_COLUMNS` in a header line; None where it is no header."""
    names = [cell.strip().lower() for cell in head]
    places = []
    for column in _COLUMNS:
        known = [name for name in (column, *_ALSO[column]) if name in names]
        if not known:
            return None
        places.append(names.index(known[0]))
    return tuple(places)


def _row(cells: Sequence[str], order: tuple[int, ...] | None, where: str) -> _Row:
    if order is None and len(cells) != len(_COLUMNS) or order is not None and len(cells) <= max(order):
        raise DataError(f"{where}: {len(cells)} values; expected {','.join(_COLUMNS)}")
    path, x1, y1, x2, y2, name = cells if order is None else [cells[at] for at in order]
    corners = (x1, y1, x2, y2)
    if not path.strip():
        raise DataError(f"{where}: names no image")
    if not name.strip() and not any(cell.strip() for cell in corners):
        return path, None, ""
    if not all(map(_is_number, corners)):
        raise DataError(f"{where}: x1, y1, x2, y2 must be numbers, got {', '.join(corners)}")
    if not name:
        raise DataError(f"{where}: a box without a class")
    left, top, right, bottom = map(float, corners)
    return path, (left, top, right, bottom), name


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _class_list(home: Path, used: Sequence[str]) -> tuple[str, ...]:
    lists = [home / name for name in ("classes.csv", "classes.txt") if os.path.lexists(home / name)]
    if not lists:
        if not used:
            raise DataError(f"{home}: no box in the CSV, and no classes.csv beside it: so nothing to detect")
        return tuple(sorted(set(used)))
    listing = lists[0]
    names = [cells[0] for _, cells in _table(listing)]
    if listing.suffix == ".csv":
        try:
            numbered = sorted((int(cells[1]), cells[0]) for _, cells in _table(listing))
        except (ValueError, IndexError):
            raise DataError(f"{listing}: each line must be name,number") from None
        if len({number for number, _ in numbered}) != len(numbered):
            raise DataError(f"{listing}: a number occurs twice: correct it")
        names = [name for _, name in numbered]
    unknown = sorted(set(used) - set(names))
    if unknown or len(set(names)) != len(names) or not names:
        fault = f"lacks {', '.join(unknown)}" if unknown else "names no class, or one twice"
        raise DataError(f"{listing}: {fault}: correct it")
    return tuple(names)


def _finds(folder: Path, split: str) -> list[Path]:
    named = files_named(folder, "annotations.csv", "_annotations.csv", "labels.csv")
    return named or of_split(folder, split_files(folder, ".csv"), split)


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_csv(path, options.images_dir)


KIND = Format(
    "csv",
    "CSV",
    "annotations.csv, {train,val,test}.csv",
    _finds,
    _reads,
    suffixes=(".csv",),
    recognises=is_boxes_csv,  # CSV files hold all sorts of things
    writes=Writer(save_csv),
)
