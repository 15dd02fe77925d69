"""CSV: one box a line, `path,x1,y1,x2,y2,class`, read and written.

A first line that names columns may name them in another order, and more of them; sizes may stand in place of the
second corner (`bbox_x`, `bbox_y`, `bbox_width`, `bbox_height`). Lines of makesense.ai, which names no columns, are
known by their form. A line with a path and nothing else is an image without boxes: background. Coordinates are
absolute pixels of the image as displayed, corners continuous. Classes are listed in `classes.csv` (`name,id`, as for
RetinaNet) or `classes.txt` (one a line) beside the file; without such a list they are those that occur, by the
alphabet.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import write_whole
from data.formats.classes import class_name, listed_classes
from data.formats.csv_table import number, read_table, separator, table_text
from data.formats.format import Format, ReadOptions, Writer
from data.formats.names import Files
from data.formats.references import Roots
from data.formats.repair import Notices, box_areas, repair_boxes
from data.formats.search import files_named, of_split, split_files
from data.formats.text import decoded, label_text
from data.images import IMAGE_SUFFIXES, image_size_hw

_COLUMNS = ("path", "x1", "y1", "x2", "y2", "class")
_ALSO = {
    "path": ("filename", "file_name", "file", "image", "image_path", "img_path", "image_name"),
    "x1": ("xmin", "x_min", "left"),
    "y1": ("ymin", "y_min", "top"),
    "x2": ("xmax", "x_max", "right"),
    "y2": ("ymax", "y_max", "bottom"),
    "class": ("label", "class_name", "name", "label_name", "labelname"),
    "x": ("bbox_x", "box_x"),
    "y": ("bbox_y", "box_y"),
    "width": ("bbox_width", "box_width", "w"),
    "height": ("bbox_height", "box_height", "h"),
}
_SIZED = ("path", "x", "y", "width", "height", "class")
_MAKESENSE = (5, 1, 2, 3, 4, 0)  # label, x, y, width, height, image, its width, its height
_BEGIN_BYTES = 1 << 16
_Row = tuple[str, tuple[float, float, float, float] | None, str]


class _Layout:
    """Where the cells of `_COLUMNS` stand in a line.

    Args:
        places: of each; None: as in `_COLUMNS`, and nothing more.
        sized: the second corner is a width and a height.
        headed: the first line names the columns.

    """

    def __init__(self, places: tuple[int, ...] | None, sized: bool = False, headed: bool = False) -> None:
        self.places, self.sized, self.headed = places, sized, headed


def read_csv(path: Path, images_dir: Path | None = None, also: Collection[str] = ()) -> Dataset:
    """Read boxes from a CSV.

    Args:
        path: the CSV. Images are looked for beside it and in `images/` beside it.
        images_dir: the folder that paths are relative to, where it is none of those.
        also: classes that occur in the dataset's other parts.

    Raises:
        DataError: a line or an image is faulty, or leads out of the dataset (see `data.formats.references`).

    """
    path = Path(path)
    notices = Notices()
    rows = _rows(path, notices)
    names = _class_list(path.parent, [name for _, box, name in rows if box is not None], also, notices)
    label_of = {name: label for label, name in enumerate(names)}
    homes = [path.parent, path.parent / "images"]
    homes = homes if images_dir is None else [Path(images_dir), *homes]
    roots = Roots(path.parent, homes, images_dir)
    files = Files(roots, notices)
    boxes_of: dict[str, list[tuple[tuple[float, float, float, float], int]]] = {}
    for name, box, class_text in rows:
        boxes_of.setdefault(name, [])
        if box is not None:
            boxes_of[name].append((box, label_of[class_text]))
    images = []
    taken: dict[Path, str] = {}
    for image_id, (name, found) in enumerate(boxes_of.items(), start=1):
        try:
            file = files.find(name, homes, str(path))
            if file is None:
                missing = Path(os.path.abspath(homes[0] / name))
                line = f"{path}: no such image: {missing}: copy it there, or remove its lines"
                raise DataError(line, kind="image-missing")
            if taken.setdefault(file, name) != name:
                line = f"{path}: {taken[file]} and {name} are one file: write its name in one way"
                raise DataError(line, kind="image-repeated")
        except DataError as error:
            notices.fault(error, name)
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
                # The shortest digits that give the same number again.
                corners = [np.format_float_positional(v, trim="-") for v in box]
                rows.append([place, *corners, names[label]])
            if not wanted.any():
                rows.append([place, "", "", "", "", ""])
        write_whole(home / f"{split}.csv", table_text(rows))
    write_whole(home / "classes.csv", table_text([name, label] for label, name in enumerate(names)))


def is_boxes_csv(path: Path) -> bool:
    """Whether a file's first lines are those of such a CSV."""
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN_BYTES)
        text = decoded(begin.rpartition(b"\n")[0] if len(begin) == _BEGIN_BYTES else begin)[0]
    except (OSError, ValueError):
        return False
    lines = [line for line in text.splitlines() if line.strip()][:1]
    cells = [cell.strip().strip('"') for cell in lines[0].split(separator(text))] if lines else []
    return _layout(cells) is not None


def _rows(path: Path, notices: Notices) -> list[_Row]:
    table = read_table(path, notices)
    if not table:
        raise DataError(f"{path}: the CSV is empty: it needs lines of {','.join(_COLUMNS)}")
    first = table[0][1]
    layout = _layout(first) or _Layout(None)
    words = [cell for cell in first if cell.strip()]
    if not layout.headed and len(words) > 2 and all(map(_is_word, words)):
        raise DataError(f"{path}: line 1: unknown columns {', '.join(first)}; name them {','.join(_COLUMNS)}")
    rows = [_row(cells, layout, f"{path}: line {at}") for at, cells in table[layout.headed :]]
    if not rows:
        raise DataError(f"{path}: the dataset is empty (a header line and nothing below)")
    return rows


def _is_word(cell: str) -> bool:
    return number(cell) != number(cell)


def _layout(first: Sequence[str]) -> _Layout | None:
    """How the lines are laid out, from the first one; None where they are none of boxes."""
    names = ["".join(cell.strip().lower().split()) for cell in first]
    for columns in (_COLUMNS, _SIZED):
        places = [next((names.index(n) for n in (c, *_ALSO[c]) if n in names), None) for c in columns]
        if None not in places:
            return _Layout(tuple(at for at in places if at is not None), columns is _SIZED, headed=True)
    if len(first) == 8 and Path(first[5].strip()).suffix.lower() in IMAGE_SUFFIXES:
        if not any(map(_is_word, [*first[1:5], *first[6:]])):
            return _Layout(_MAKESENSE, sized=True)
    return _Layout(None) if len(first) == len(_COLUMNS) else None


def _row(cells: Sequence[str], layout: _Layout, where: str) -> _Row:
    places = layout.places
    if places is None and len(cells) != len(_COLUMNS) or places is not None and len(cells) <= max(places):
        raise DataError(f"{where}: {len(cells)} values; expected {','.join(_COLUMNS)}")
    path, *corners, name = cells if places is None else [cells[at] for at in places]
    name = class_name(name)
    if not path.strip():
        raise DataError(f"{where}: names no image")
    if not name and not any(cell.strip() for cell in corners):
        return path.rstrip(), None, ""
    values = [number(cell) for cell in corners]
    if any(value != value for value in values):
        raise DataError(f"{where}: {', '.join(_COLUMNS[1:5])} must be numbers, got {', '.join(corners)}")
    if not name:
        raise DataError(f"{where}: a box without a class")
    left, top, right, bottom = values
    if layout.sized:
        right, bottom = left + right, top + bottom
    return path.rstrip(), (left, top, right, bottom), name


def _class_list(home: Path, used: Collection[str], also: Collection[str], notices: Notices) -> tuple[str, ...]:
    lists = [home / name for name in ("classes.csv", "classes.txt") if os.path.lexists(home / name)]
    if not lists:
        if not used and not also:
            raise DataError(f"{home}: no box in the CSV, and no classes.csv beside it: so nothing to detect")
        return tuple(sorted({*used, *also}))
    listing = lists[0]
    names: tuple[str, ...]
    if listing.suffix == ".txt":
        names = listed_classes(label_text(listing, notices, kind="a list of classes").splitlines(), str(listing))
    else:
        lines = [cells for _, cells in read_table(listing, notices)]
        try:
            order = [int(cells[1]) for cells in lines]
        except (ValueError, IndexError):
            raise DataError(f"{listing}: each line must be name,number") from None
        if len(set(order)) != len(order):
            raise DataError(f"{listing}: a number occurs twice: correct it")
        named = [cells[0] for _, cells in sorted(zip(order, lines, strict=True), key=lambda pair: pair[0])]
        names = listed_classes(named, str(listing))
    unknown = sorted(set(used) - set(names))
    if unknown:
        raise DataError(f"{listing}: lacks {', '.join(unknown)}: correct it")
    return names


def _finds(folder: Path, split: str) -> list[Path]:
    named = files_named(folder, "annotations.csv", "_annotations.csv", "labels.csv")
    return named or of_split(folder, split_files(folder, ".csv"), split)


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_csv(path, options.images_dir, options.also)


def _occurring(path: Path) -> set[str]:
    if any(os.path.lexists(path.parent / name) for name in ("classes.csv", "classes.txt")):
        return set()
    try:
        return {name for _, box, name in _rows(path, Notices(every=None)) if box is not None}
    except DataError:
        return set()


KIND = Format(
    "csv",
    "CSV",
    "annotations.csv, {train,val,test}.csv",
    _finds,
    _reads,
    suffixes=(".csv",),
    recognises=is_boxes_csv,  # CSV files hold all sorts of things
    writes=Writer(save_csv),
    occurring=_occurring,
)
