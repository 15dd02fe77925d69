"""COCO JSON, the native form: read and written. COCO's x, y, width, height live in this file only."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from data.dataset import Dataset, Picture
from data.errors import DataError
from data.pictures import picture_header, upright_boxes
from data.repair import Notices, repair_boxes

_IMAGE_KEYS = frozenset(
    {"attributes", "coco_url", "date_captured", "file_name", "flickr_url", "height", "id", "license", "width"}
)


def read_coco(path: Path, images_dir: Path | None = None) -> Dataset:
    """Read a COCO detection JSON.

    Pictures are looked for beside the JSON, in `images/` beside it, and in the places where COCO and
    Roboflow keep them. Classes are ordered by category id. An image's `attributes` (or any further
    plain key of it, such as `field`) become `Picture.attributes`.

    Args:
        path: the JSON.
        images_dir: the folder that `file_name` is relative to, where it is none of those.

    Raises:
        DataError: the JSON or an entry of it is faulty, or a picture is missing or no picture.

    """
    path = Path(path)
    content = _content(path)
    names = _categories(content, path)
    label_of = {category_id: label for label, category_id in enumerate(names)}
    images = _images(content, path)
    annotations: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in images}
    for index, annotation in enumerate(_entries(content, "annotations", path)):
        where = f"{path}: annotation {annotation.get('id', f'at position {index}')}"
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if not _whole_number(image_id) or image_id not in annotations:
            raise DataError(f"{where}: image_id {image_id!r} is not in images: add the image or remove the box")
        if not _whole_number(category_id) or category_id not in label_of:
            known = ", ".join(map(str, label_of))
            raise DataError(f"{where}: category_id {category_id!r} is not in categories (known: {known})")
        annotations[image_id].append(annotation)
    paths = _paths(images, path, images_dir)
    notices = Notices()
    pictures = tuple(
        _picture(image, paths[image_id], annotations[image_id], label_of, path, notices)
        for image_id, image in images.items()
    )
    return Dataset(str(path), tuple(names.values()), tuple(names), pictures, notices.lines())


def save_coco(dataset: Dataset, path: Path) -> None:
    """Write a dataset as COCO JSON; the pictures stay where they are.

    Image and category ids are kept, annotations are numbered from 1, and `file_name` is relative to
    the JSON's folder (with `..` where the pictures lie elsewhere). The file appears whole or not at all.

    Raises:
        DataError: the file cannot be written.

    """
    path = Path(path)
    home = Path(os.path.realpath(path.parent))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for picture in dataset.pictures:
        file_name = _relative(picture.path, home)
        height, width = picture.size_hw
        image: dict[str, Any] = {
            "id": picture.image_id,
            "file_name": file_name,
            "width": width,
            "height": height,
        }
        if picture.attributes:
            image["attributes"] = dict(picture.attributes)
        images.append(image)
        columns = (picture.boxes_xyxy.tolist(), picture.labels, picture.areas_px.tolist(), picture.iscrowd)
        for (x1, y1, x2, y2), label, area_px, crowd in zip(*columns, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture.image_id,
                    "category_id": dataset.category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": area_px,
                    "iscrowd": int(crowd),
                }
            )
    named = zip(dataset.category_ids, dataset.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in named]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text, so not a COCO JSON") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON: {error.msg} at line {error.lineno} column {error.colno}; "
            "export it again or correct that place"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply to be COCO") from None
    if not isinstance(content, dict) or not {"images", "categories"} <= set(content):
        raise DataError(f"{path}: not a COCO detection JSON (needs images, annotations and categories)")
    return content


def _entries(content: Mapping[str, Any], key: str, path: Path) -> Sequence[Mapping[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: {key!r} must be a list of objects; export the dataset again")
    return entries


def _whole_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON knows whole numbers that no float can hold
        return False


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Category id -> name, ordered by id."""
    names: dict[int, str] = {}
    for index, category in enumerate(_entries(content, "categories", path)):
        category_id, name = category.get("id"), category.get("name")
        if not _whole_number(category_id) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: category at position {index} needs a whole-number id and a name")
        if category_id in names or name in names.values():
            raise DataError(f"{path}: category {category_id} {name!r} stands there twice: merge or rename it")
        names[category_id] = name
    if not names:
        raise DataError(f"{path}: no categories, so nothing to detect")
    return dict(sorted(names.items()))


def _images(content: Mapping[str, Any], path: Path) -> dict[int, Mapping[str, Any]]:
    images: dict[int, Mapping[str, Any]] = {}
    for index, image in enumerate(_entries(content, "images", path)):
        image_id, file_name = image.get("id"), image.get("file_name")
        if not _whole_number(image_id) or not isinstance(file_name, str) or not file_name:
            raise DataError(f"{path}: image at position {index} needs a whole-number id and a file_name")
        if image_id in images:
            raise DataError(f"{path}: image id {image_id} stands there twice: ids must be unique")
        images[image_id] = image
    if not images:
        raise DataError(f"{path}: the dataset is empty (no images)")
    return images


def _paths(images: Mapping[int, Mapping[str, Any]], path: Path, images_dir: Path | None) -> dict[int, Path]:
    """Image id -> picture file, all relative to the one folder in which the first picture is found."""
    names = {image_id: str(image["file_name"]) for image_id, image in images.items()}
    if images_dir is not None:
        homes = [Path(images_dir)]
    else:
        home, part = path.parent, path.stem.removeprefix("instances_")
        homes = [home, home / "images", home.parent / part, home.parent / "images" / part]
        homes += [home.parent / "images", home.parent]
    first = next(iter(names.values()))
    found = [home for home in homes if os.path.isfile(_file(home, first))]
    if not found and len(homes) > 1:
        # Perhaps only the first one is missing: then its own message helps more than "no folder".
        found = [home for home in homes if any(os.path.isfile(_file(home, name)) for name in names.values())]
    home = found[0] if found else homes[0]
    paths = {image_id: _file(home, name) for image_id, name in names.items()}
    missing = [file for file in paths.values() if not os.path.isfile(file)]
    if missing:
        looked = "" if found or len(homes) == 1 else f"; looked in {', '.join(map(str, homes))}"
        raise DataError(
            f"{path}: {len(missing)} of {len(paths)} pictures are missing, first: {missing[0]}{looked}: "
            "copy them there, or remove them from the JSON"
        )
    return paths


def _file(home: Path, file_name: str) -> Path:
    file = home / file_name
    if "\\" in file_name and not os.path.isfile(file):  # written on Windows
        file = home / file_name.replace("\\", "/")
    return Path(os.path.abspath(file))


def _picture(
    image: Mapping[str, Any],
    file: Path,
    annotations: Sequence[Mapping[str, Any]],
    label_of: Mapping[int, int],
    path: Path,
    notices: Notices,
) -> Picture:
    boxes = np.array([_box(a, path) for a in annotations], np.float64).reshape(-1, 4)
    stored_hw, orientation = picture_header(file)
    size_hw = (stored_hw[1], stored_hw[0]) if orientation >= 5 else stored_hw
    given_hw = (image.get("height"), image.get("width"))
    if given_hw not in (size_hw, (None, None)):
        if given_hw != stored_hw or (boxes[:, 2:] > np.array(stored_hw[::-1]) + 2.0).any():
            raise DataError(
                f"{path}: says {file.name} is {given_hw[1]} x {given_hw[0]}, the picture is "
                f"{size_hw[1]} x {size_hw[0]}: its boxes belong to another version of the picture"
            )
        # The labels were drawn by a tool that ignores EXIF: turn them together with the picture.
        boxes = upright_boxes(boxes, stored_hw, orientation)
        rest = "labelled on its side (sizes in the JSON ignore EXIF orientation): boxes turned upright"
        notices.count("picture", "pictures", rest, file.name)
    kept, keep = repair_boxes(boxes, size_hw, notices, str(file))
    chosen = [annotation for annotation, stays in zip(annotations, keep, strict=True) if stays]
    box_areas = (kept[:, 2] - kept[:, 0]) * (kept[:, 3] - kept[:, 1])
    areas = [_area(a, float(fallback), path) for a, fallback in zip(chosen, box_areas, strict=True)]
    iscrowd = np.array([bool(annotation.get("iscrowd", 0)) for annotation in chosen], np.bool_)
    notices.count("box", "boxes", "marked iscrowd: not used for training", str(file), int(iscrowd.sum()))
    labels = np.array([label_of[annotation["category_id"]] for annotation in chosen], np.int64)
    return Picture(
        image["id"],
        file,
        size_hw,
        kept,
        labels,
        np.array(areas, np.float32),
        iscrowd,
        _attributes(image, path),
    )


def _box(annotation: Mapping[str, Any], path: Path) -> tuple[float, float, float, float]:
    box = annotation.get("bbox")
    where = f"{path}: annotation {annotation.get('id')} of image {annotation['image_id']}"
    numbers = isinstance(box, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
    if not isinstance(box, list) or not numbers or len(box) != 4:
        raise DataError(f"{where}: bbox must be four numbers [x, y, width, height], got {box!r}")
    x, y, width, height = box
    if not all(map(_finite, box)):
        raise DataError(f"{where}: bbox {box} is not finite (NaN or infinite): correct or remove it")
    if width < 0 or height < 0:
        raise DataError(f"{where}: bbox {box} has a negative width or height: correct or remove it")
    return x, y, x + width, y + height


def _area(annotation: Mapping[str, Any], box_area_px: float, path: Path) -> float:
    area = annotation.get("area")
    if area is None:
        return box_area_px
    if isinstance(area, bool) or not isinstance(area, int | float) or not _finite(area) or area < 0:
        raise DataError(f"{path}: annotation {annotation.get('id')}: area must be a number >= 0, got {area!r}")
    return float(area)


def _attributes(image: Mapping[str, Any], path: Path) -> dict[str, str]:
    plain = {key: value for key, value in image.items() if key not in _IMAGE_KEYS}
    own = image.get("attributes") or {}
    if not isinstance(own, dict):
        raise DataError(f"{path}: image {image['id']}: attributes must be an object, got {own!r}")
    return {str(key): str(v) for key, v in {**plain, **own}.items() if isinstance(v, str | int | float)}


def _relative(file: Path, home: Path) -> str:
    # The file's folder is resolved, the file is not: `..` must be right when the system follows it,
    # and a link to a picture keeps its own name.
    real = os.path.join(os.path.realpath(file.parent), file.name)
    try:
        return Path(os.path.relpath(real, home)).as_posix()
    except ValueError:  # another drive on Windows
        return Path(real).as_posix()


def _write_whole(path: Path, text: str) -> None:
    """Write beside the target, then rename: a reader never sees half a file."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would lock out everyone else who shares the folder
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
