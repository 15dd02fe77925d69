"""COCO JSON, read and written. COCO's boxes of x, y, width, height occur in this file only."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import read_text, write_whole
from data.formats.coco_images import coco_files, coco_images
from data.formats.format import ALL_PROPERTIES, Format, ReadOptions, Writer
from data.formats.orientation import boxes_as_displayed
from data.formats.references import content_sha256, leads_out, reference
from data.formats.repair import Notices, box_areas, repair_boxes
from data.formats.segmentation import segmentation_box

_IMAGE_KEYS = frozenset("attributes coco_url content_sha256 date_captured file_name flickr_url height id".split())
_IMAGE_KEYS |= {"license", "width"}
_LIMIT_BYTES = 4 << 30  # COCO's own JSON has 0.45 GB, that of LVIS 1.1 GB
_LARGEST_AREA_PX = 1e12


def read_coco(path: Path, images_dir: Path | None = None) -> Dataset:
    """Read a COCO detection JSON.

    Images are looked for beside the JSON, in `images/` beside it, and in the places where COCO and
    Roboflow keep them. Classes are ordered by category id. An image's `attributes` (or any further
    plain key of it, such as `field`) become `LabelledImage.attributes`. An annotation without a `bbox` gets the
    bounds of its `segmentation`: polygons, or a mask as run lengths. What Label Studio and CVAT export as COCO is
    read too, its file names included.

    Args:
        path: the JSON.
        images_dir: the folder that `file_name` is relative to, where it is none of those.

    Raises:
        DataError: the JSON or an entry of it is faulty, or an image is missing, no image, or leads out of
            the dataset (see `data.formats.references`).

    """
    path = Path(path)
    content = _content(path)
    names = _categories(content, path)
    label_of = {category_id: label for label, category_id in enumerate(names)}
    entries = _images(content, path)
    notices = Notices()
    annotations: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in entries}
    for index, annotation in enumerate(_entries(content, "annotations", path)):
        where = f"{path}: annotation {annotation.get('id', f'at position {index}')}"
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if not _whole_number(image_id) or image_id not in annotations:
            line = f"{where}: image_id {image_id!r} is not in images: add the image or remove the box"
            notices.fault(DataError(line, kind="image-unknown"), str(path))
            continue
        if not _whole_number(category_id) or category_id not in label_of:
            known = ", ".join(map(str, label_of))
            line = f"{where}: category_id {category_id!r} is not in categories (known: {known})"
            notices.fault(DataError(line, kind="class-unknown"), str(path))
            continue
        annotations[image_id].append(annotation)
    paths = coco_images(entries, path, images_dir, notices)

    def image(image_id: int) -> LabelledImage:
        return _image(entries[image_id], paths[image_id], annotations[image_id], label_of, path, notices)

    images = [p for i in paths for _, p in notices.each([i], image, str(paths[i]), "image-unreadable")]
    return Dataset(str(path), tuple(names.values()), tuple(names), tuple(images), notices.lines())


def save_coco(dataset: Dataset, path: Path) -> None:
    """Write a dataset as COCO JSON; the images stay where they are.

    Image and category ids are kept, annotations are numbered from 1, and `file_name` is relative to
    the JSON's folder; where the images lie elsewhere it holds `..`, and `content_sha256` beside it proves
    that they are meant (see `data.formats.references`). The file appears whole or not at all.

    Raises:
        DataError: the file cannot be written, or an image is a window of a photo, which COCO cannot represent.

    """
    path = Path(path)
    window = next((image for image in dataset.images if image.window is not None), None)
    if window is not None:
        raise DataError(f"{path}: COCO cannot represent a window of a photo ({window.path.name}): write the tiles")
    home = Path(os.path.realpath(path.parent))
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in dataset.images:
        file_name = reference(image.path, home)
        height, width = image.size_hw
        entry: dict[str, Any] = {
            "id": image.image_id,
            "file_name": file_name,
            "width": width,
            "height": height,
        }
        digest = content_sha256(image.path) if leads_out(image.path, home) else None
        if digest:
            entry["content_sha256"] = digest
        if image.attributes:
            entry["attributes"] = dict(image.attributes)
        entries.append(entry)
        columns = (image.boxes_xyxy.tolist(), image.labels, image.areas_px.tolist(), image.iscrowd)
        for (x1, y1, x2, y2), label, area_px, crowd, truncated in zip(*columns, image.truncated, strict=True):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image.image_id,
                "category_id": dataset.category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area_px,
                "iscrowd": int(crowd),
            }
            annotations.append({**annotation, "attributes": {"truncated": True}} if truncated else annotation)
    named = zip(dataset.category_ids, dataset.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in named]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(path, kind="a COCO JSON", limit_bytes=_LIMIT_BYTES))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON: {error.msg} at line {error.lineno} column {error.colno}; "
            "export it again or correct that place"
        ) from None
    except ValueError:
        raise DataError(f"{path}: not valid JSON: a number of thousands of digits") from None
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
            raise DataError(f"{path}: category {category_id} {name!r} occurs twice: merge or rename it")
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
            raise DataError(f"{path}: image id {image_id} occurs twice: ids must be unique")
        images[image_id] = image
    if not images:
        raise DataError(f"{path}: the dataset is empty (no images)")
    return images


def _image(
    image: Mapping[str, Any],
    file: Path,
    annotations: Sequence[Mapping[str, Any]],
    label_of: Mapping[int, int],
    path: Path,
    notices: Notices,
) -> LabelledImage:
    given_hw = (image.get("height"), image.get("width"))
    read = notices.each(
        annotations, lambda a: (_box(a, given_hw, path), _area(a, path), _iscrowd(a, path)), str(file)
    )
    boxes = np.array([box for _, (box, _, _) in read], np.float64).reshape(-1, 4)
    boxes, size_hw = boxes_as_displayed(boxes, given_hw, file, path, notices)
    kept, keep = repair_boxes(boxes, size_hw, notices, str(file))
    whole = [one for one, stays in zip(read, keep, strict=True) if stays]
    chosen = [annotation for annotation, _ in whole]
    areas = [
        own if area is None else area for (_, (_, area, _)), own in zip(whole, box_areas(kept).tolist(), strict=True)
    ]
    iscrowd = np.array([crowd for _, (_, _, crowd) in whole], np.bool_)
    notices.count("box", "boxes", "marked iscrowd: not used for training", str(file), int(iscrowd.sum()))
    labels = np.array([label_of[annotation["category_id"]] for annotation in chosen], np.int64)
    return LabelledImage(
        image["id"],
        file,
        size_hw,
        kept,
        labels,
        np.array(areas, np.float32),
        iscrowd,
        _attributes(image, path),
        np.array([_truncated(annotation) for annotation in chosen], np.bool_),
    )


def _box(annotation: Mapping[str, Any], given_hw: tuple[Any, Any], path: Path) -> tuple[float, float, float, float]:
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    where = f"{path}: annotation {annotation.get('id')} of image {annotation['image_id']}"
    if not box and segmentation:  # tools that draw outlines leave the box out
        size_hw = given_hw if all(map(_whole_number, given_hw)) else None
        try:
            return segmentation_box(segmentation, size_hw)
        except ValueError as error:
            raise DataError(f"{where}: no bbox, and its segmentation cannot be used: {error}") from None
    numbers = isinstance(box, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
    if not isinstance(box, list) or not numbers or len(box) != 4:
        raise DataError(f"{where}: bbox must be four numbers [x, y, width, height], got {box!r}")
    x, y, width, height = box
    if not all(map(_finite, box)):
        line = f"{where}: bbox {box} is not finite (NaN or infinite): correct or remove it"
        raise DataError(line, kind="box-not-finite")
    if width < 0 or height < 0:
        raise DataError(
            f"{where}: bbox {box} has a negative width or height: correct or remove it", kind="box-swapped"
        )
    return x, y, x + width, y + height


def _iscrowd(annotation: Mapping[str, Any], path: Path) -> bool:
    crowd = annotation.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise DataError(f"{path}: annotation {annotation.get('id')}: iscrowd must be 0 or 1, got {crowd!r}")
    return bool(crowd)


def _truncated(annotation: Mapping[str, Any]) -> bool:
    """Whether the object continues outside of the image, as CVAT and Pascal VOC mark it."""
    own = annotation.get("attributes")
    given = own.get("truncated") if isinstance(own, dict) else annotation.get("truncated")
    return given in (1, "1", "true", "True")


def _area(annotation: Mapping[str, Any], path: Path) -> float | None:
    area = annotation.get("area")
    if area is None:
        return None
    number = isinstance(area, int | float) and not isinstance(area, bool) and _finite(area)
    if not number or not 0 <= area < _LARGEST_AREA_PX:
        raise DataError(f"{path}: annotation {annotation.get('id')}: area must be a number >= 0, got {area!r}")
    return float(area)


def _attributes(image: Mapping[str, Any], path: Path) -> dict[str, str]:
    plain = {key: value for key, value in image.items() if key not in _IMAGE_KEYS}
    own = image.get("attributes") or {}
    if not isinstance(own, dict):
        raise DataError(f"{path}: image {image['id']}: attributes must be an object, got {own!r}")
    return {str(key): str(v) for key, v in {**plain, **own}.items() if isinstance(v, str | int | float)}


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_coco(path, options.images_dir)


def _save(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write `annotations.json`, or `annotations/instances_<split>.json` for each of several splits."""
    for split, dataset in parts.items():
        several = home / "annotations" / f"instances_{split}.json"
        images = [replace(i, path=home / place) for i, place in zip(dataset.images, places[split], strict=True)]
        save_coco(replace(dataset, images=tuple(images)), home / "annotations.json" if len(parts) == 1 else several)


KIND = Format(
    "coco",
    "COCO",
    "annotations.json, _annotations.coco.json, result.json, instances_*.json, {train,val,test}.json",
    coco_files,
    _reads,
    suffixes=(".json",),
    writes=Writer(_save, own_digests=True, represents=ALL_PROPERTIES),
)
