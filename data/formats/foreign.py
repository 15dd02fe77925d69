"""Labels of tools that Swath does not read: known by their form, and answered by how to export them instead."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.files import read_bytes
from data.formats.text import decoded
from data.images import IMAGE_SUFFIXES

_MOST_FILES = 50
_SUFFIXES = {
    ".tfrecord": "a TFRecord: export the dataset as COCO, Pascal VOC or YOLO instead",
    ".record": "a TFRecord: export the dataset as COCO, Pascal VOC or YOLO instead",
    ".parquet": "a table of Parquet: export the dataset as COCO, Pascal VOC or YOLO instead",
    ".arrow": "a table of Arrow: export the dataset as COCO, Pascal VOC or YOLO instead",
    ".zip": "an archive: unpack it and name the folder",
    ".tar": "an archive: unpack it and name the folder",
    ".gz": "an archive: unpack it and name the folder",
    ".7z": "an archive: unpack it and name the folder",
    ".rar": "an archive: unpack it and name the folder",
}


def foreign_labels(source: Path) -> str | None:
    """One line for labels that Swath does not read: whose they are, and how to export them; None for any others.

    Args:
        source: a file, or a folder whose first files are looked at.

    """
    if not source.is_dir():
        what = _of_file(source)
        return f"{source}: {what}" if what else None
    for file in _first_files(source):
        what = _of_file(file)
        if what:
            return f"{file}: {what}"
    unnamed = _unnamed_yolo(source)
    if unnamed:
        return f"{unnamed}: YOLO labels without class names: put a classes.txt, one name a line, into {source}"
    return None


def foreign_json(content: Any) -> str | None:
    """Whose labels the content of a JSON is, and how to export them; None where it is not known."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict):
        if {"image_id", "category_id", "score"} <= set(first):
            return "a list of detections, not of labels: name the annotations that they belong to"
        if "image" in first and "annotations" in first:
            return "CreateML's JSON: export the dataset as COCO, Pascal VOC or YOLO instead"
        if {"annotations", "completions", "predictions", "data"} & set(first) or {"image", "label"} <= set(first):
            return "Label Studio's own JSON: export the project as COCO or YOLO with images"
    if not isinstance(content, dict):
        return None
    if {"shapes", "imagePath"} <= set(content):
        return "LabelMe's JSON, one file an image: convert the folder by labelme's labelme2coco.py or labelme2voc.py"
    values = [value for value in content.values() if isinstance(value, dict)]
    if "_via_img_metadata" in content or (values and all("regions" in v and "filename" in v for v in values)):
        return "VIA's JSON: export the annotations as COCO (Annotation, Export Annotations, COCO format)"
    if {"objects", "size"} <= set(content):
        return "Supervisely's JSON: export the project as COCO, Pascal VOC or YOLO instead"
    if {"assets", "tags"} <= set(content) or "visitedFrames" in content:
        return "VoTT's JSON: export the project as Pascal VOC or CSV"
    if {"items", "categories"} <= set(content):
        return "Datumaro's JSON: export the dataset as COCO 1.0, Pascal VOC or YOLO"
    if "item" in content and "annotations" in content:
        return "V7's JSON: export the dataset as COCO instead"
    if {"images", "annotations"} <= set(content) and "categories" not in content:
        return "a COCO JSON without its categories: export it again, with the class names"
    return None


def _of_file(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix not in (".json", ".xml"):
        return None
    try:
        text = decoded(read_bytes(file, kind="labels"))[0]
        if suffix == ".json":
            return foreign_json(json.loads(text))
    except (DataError, ValueError, RecursionError):
        return None
    head = text[:4096]
    return (
        "CVAT's own XML: export the task as COCO 1.0 or Pascal VOC 1.1"
        if "<annotations" in head and "<annotation>" not in head
        else None
    )


def _first_files(folder: Path) -> Iterator[Path]:
    """The first label files in `folder` and the folders in it."""
    seen = 0
    for home, folders, names in os.walk(folder):
        deep = len(Path(home).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep < 2 else []
        for name in sorted(names):
            if name.startswith(".") or Path(name).suffix.lower() not in {".json", ".xml", *_SUFFIXES}:
                continue
            yield Path(home, name)
            seen += 1
            if seen == _MOST_FILES:
                return


def _unnamed_yolo(folder: Path) -> Path | None:
    """A text that lies beside an image, or in `labels/`, and begins as YOLO's labels do."""
    for home, folders, names in os.walk(folder):
        deep = len(Path(home).relative_to(folder).parts)
        folders[:] = sorted(folders) if deep < 2 else []
        images = {os.path.splitext(name)[0] for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES}
        for name in sorted(names)[:_MOST_FILES]:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() == ".txt" and (stem in images or Path(home).name.lower() in ("labels", "train")):
                tokens = _first_tokens(Path(home, name))
                if len(tokens) >= 5 and all(map(_is_number, tokens[:5])):
                    return Path(home, name)
    return None


def _first_tokens(file: Path) -> list[str]:
    try:
        return decoded(read_bytes(file, kind="labels"))[0].split(maxsplit=6)
    except (DataError, ValueError):
        return []


def _is_number(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
