"""The entries of a COCO JSON: its images and categories under whole-number ids."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats.classes import Classes, numbered_classes
from data.formats.foreign import foreign_json
from data.formats.repair import Notices
from data.formats.text import label_text

_LIMIT_BYTES = 4 << 30  # COCO's own JSON has 0.45 GB, that of LVIS 1.1 GB
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.0*)?")

Key = int | str
"""An id as COCO JSONs have it: a whole number, or any text."""


def coco_content(path: Path, notices: Notices) -> Mapping[str, Any]:
    """What a JSON holds, if it looks like COCO's.

    Raises:
        DataError: it cannot be read, is no JSON, or is none of COCO's.

    """
    try:
        content = json.loads(label_text(path, notices, kind="a COCO JSON", limit_bytes=_LIMIT_BYTES))
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
        foreign = foreign_json(content)
        raise DataError(
            f"{path}: {foreign or 'not a COCO detection JSON (needs images, annotations and categories)'}"
        )
    return content


def coco_entries(content: Mapping[str, Any], key: str, path: Path) -> Sequence[Mapping[str, Any]]:
    """The list of objects under `key`.

    Raises:
        DataError: it is none.

    """
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path}: {key!r} must be a list of objects; export the dataset again")
    return entries


def key_of(value: Any) -> Key | None:
    """An id in the form in which 7, 7.0 and "7" are one; None where it is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else None
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    return int(text.partition(".")[0]) if text.isascii() and _NUMBER.fullmatch(text) else text


def coco_categories(
    content: Mapping[str, Any], used: Collection[Key], path: Path, notices: Notices
) -> tuple[Classes, dict[Key, int]]:
    """The classes, and for each id that annotations may have the label.

    A category that no annotation has, and that others name as their supercategory, is Roboflow's project, no class.

    Args:
        content: the whole JSON.
        used: the category ids of annotations.
        path: the JSON, for messages.
        notices: receives what was left out or numbered.

    Raises:
        DataError: an id or name is missing or occurs twice, or there is no category.

    """
    entries = coco_entries(content, "categories", path)
    names = [entry.get("name") for entry in entries]
    given: list[tuple[Key, str]] = []
    for index, entry in enumerate(entries):
        key, name = key_of(entry.get("id")), entry.get("name")
        if key is None or not isinstance(name, str) or not name:
            raise DataError(f"{path}: category at position {index} needs a whole-number id and a name")
        others = [other.get("supercategory") for at, other in enumerate(entries) if at != index]
        if key not in used and name in others and entry.get("supercategory") not in names:
            notices.add(f"category {key} {name!r} is only the supercategory of the others: no class")
            continue
        if key in dict(given):
            raise DataError(f"{path}: category {key} {name!r} occurs twice: merge or rename it")
        given.append((key, name))
    if not given:
        raise DataError(f"{path}: no categories, so nothing to detect")
    number_of = numbered([key for key, _ in given], "category", "categories", path, notices)
    classes = numbered_classes([(number_of[key], name) for key, name in given], str(path), notices)
    return classes, {key: classes.label_of[number] for key, number in number_of.items()}


def coco_image_entries(content: Mapping[str, Any], path: Path) -> dict[Key, Mapping[str, Any]]:
    """Id -> image.

    Raises:
        DataError: an id or file name is missing, an id occurs twice, or there is no image.

    """
    images: dict[Key, Mapping[str, Any]] = {}
    for index, image in enumerate(coco_entries(content, "images", path)):
        key, file_name = key_of(image.get("id")), image.get("file_name")
        if key is None or not isinstance(file_name, str) or not file_name:
            raise DataError(f"{path}: image at position {index} needs a whole-number id and a file_name")
        if key in images:
            raise DataError(f"{path}: image id {key} occurs twice: ids must be unique")
        images[key] = image
    if not images:
        raise DataError(f"{path}: the dataset is empty (no images)")
    return images


def numbered(keys: Collection[Key], one: str, many: str, path: Path, notices: Notices) -> dict[Key, int]:
    """Id -> whole number: itself, or the next one that is free where it is a text, which is counted."""
    texts = [key for key in keys if isinstance(key, str)]
    free = 1 + max((key for key in keys if isinstance(key, int)), default=0)
    numbers: dict[Key, int] = {key: key for key in keys if isinstance(key, int)}
    numbers |= {key: free + at for at, key in enumerate(texts)}
    rest = "whose id is a text: numbered"
    notices.count(one, many, rest, f"{path.name}: {texts[0] if texts else ''}", len(texts))
    return numbers


def coco_size(image: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Height and width that an image entry states; (None, None) where it states none."""
    height, width = key_of(image.get("height")), key_of(image.get("width"))
    stated = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    return (height, width) if stated else (None, None)  # type: ignore[return-value]  # both are int
