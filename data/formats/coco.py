"""COCO JSON, read and written. COCO's boxes of x, y, width, height occur here and in `coco_annotation` only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import json_text, write_whole
from data.formats.coco_annotation import annotation_area, annotation_box, given_xywh, is_crowd, is_truncated
from data.formats.coco_entries import (
    Key,
    coco_categories,
    coco_content,
    coco_entries,
    coco_image_entries,
    coco_size,
    key_of,
    numbered,
)
from data.formats.coco_images import coco_files, coco_images, unread_subsets
from data.formats.format import ALL_PROPERTIES, Format, ReadOptions, Writer
from data.formats.orientation import boxes_as_displayed
from data.formats.references import content_sha256, leads_out, reference
from data.formats.repair import Notices, box_areas, repair_boxes

_IMAGE_KEYS = frozenset("attributes coco_url content_sha256 date_captured file_name flickr_url height id".split())
_IMAGE_KEYS |= {"license", "width"}


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
    notices = Notices()
    content = coco_content(path, notices)
    given = coco_entries(content, "annotations", path)
    categories = [key_of(annotation.get("category_id")) for annotation in given]
    classes, label_of = coco_categories(content, {key for key in categories if key is not None}, path, notices)
    entries = coco_image_entries(content, path)
    number_of = numbered(list(entries), "image", "images", path, notices)
    annotations: dict[Key, list[tuple[int, Mapping[str, Any]]]] = {image_id: [] for image_id in entries}
    for index, (annotation, category) in enumerate(zip(given, categories, strict=True)):
        where = f"{path}: annotation {annotation.get('id', f'at position {index}')}"
        image_key = key_of(annotation.get("image_id"))
        if image_key is None or image_key not in annotations:
            line = (
                f"{where}: image_id {annotation.get('image_id')!r} is not in images: add the image or remove the box"
            )
            notices.fault(DataError(line, kind="image-unknown"), str(path))
            continue
        if category is None or category not in label_of:
            known = ", ".join(map(str, sorted(label_of, key=lambda key: label_of[key])))
            line = f"{where}: category_id {annotation.get('category_id')!r} is not in categories (known: {known})"
            notices.fault(DataError(line, kind="class-unknown"), str(path))
            continue
        annotations[image_key].append((label_of[category], annotation))
    for name in unread_subsets(path):
        notices.add(f"{name} beside it is of no split: not read; rename it, or name the file itself")
    paths = coco_images(entries, path, images_dir, notices)

    def image(key: Key) -> LabelledImage:
        return _image(number_of[key], entries[key], paths[key], annotations[key], path, notices)

    images = [p for i in paths for _, p in notices.each([i], image, str(paths[i]), "image-unreadable")]
    return Dataset(str(path), classes.names, classes.ids, tuple(images), notices.lines())


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
        columns = (image.boxes_xywh.tolist(), image.labels, image.areas_px.tolist(), image.iscrowd)
        for box_xywh, label, area_px, crowd, truncated in zip(*columns, image.truncated, strict=True):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image.image_id,
                "category_id": dataset.category_ids[label],
                "bbox": box_xywh,
                "area": area_px,
                "iscrowd": int(crowd),
            }
            annotations.append({**annotation, "attributes": {"truncated": True}} if truncated else annotation)
    named = zip(dataset.category_ids, dataset.class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in named]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    write_whole(path, json_text(content))


def _image(
    image_id: int,
    image: Mapping[str, Any],
    file: Path,
    labelled: Sequence[tuple[int, Mapping[str, Any]]],
    path: Path,
    notices: Notices,
) -> LabelledImage:
    given_hw = coco_size(image)

    def read(one: tuple[int, Mapping[str, Any]]) -> tuple[tuple[float, float, float, float], float | None, bool]:
        annotation = one[1]
        box = annotation_box(annotation, given_hw, path, notices)
        return box, annotation_area(annotation, path), is_crowd(annotation, path)

    done = notices.each(labelled, read, str(file))
    boxes = np.array([box for _, (box, _, _) in done], np.float64).reshape(-1, 4)
    boxes, size_hw = boxes_as_displayed(boxes, given_hw, file, path, notices)
    kept, keep = repair_boxes(boxes, size_hw, notices, str(file))
    whole = [one for one, stays in zip(done, keep, strict=True) if stays]
    areas = [
        own if area is None else area for (_, (_, area, _)), own in zip(whole, box_areas(kept).tolist(), strict=True)
    ]
    iscrowd = np.array([crowd for _, (_, _, crowd) in whole], np.bool_)
    notices.count("box", "boxes", "marked iscrowd: not used for training", str(file), int(iscrowd.sum()))
    return LabelledImage(
        image_id,
        file,
        size_hw,
        kept,
        np.array([label for (label, _), _ in whole], np.int64),
        np.array(areas, np.float64),
        iscrowd,
        _attributes(image, path),
        np.array([is_truncated(annotation) for (_, annotation), _ in whole], np.bool_),
        boxes_xywh=np.array([given_xywh(annotation) for (_, annotation), _ in whole], np.float64).reshape(-1, 4),
    )


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
    "annotations.json, _annotations.coco.json, result.json, labels.json, instances_*.json, {train,val,test}.json",
    coco_files,
    _reads,
    suffixes=(".json",),
    writes=Writer(_save, own_digests=True, represents=ALL_PROPERTIES),
)
