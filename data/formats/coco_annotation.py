"""An annotation of a COCO JSON: its box, area and marks. COCO's boxes are x, y, width, height."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats.orientation import turned_bounds
from data.formats.repair import Notices
from data.formats.segmentation import segmentation_box

_LARGEST_AREA_PX = 1e12
_SEPARATORS = re.compile(r"[\s,;\[\]()]+")

Box = tuple[float, float, float, float]


def annotation_box(
    annotation: Mapping[str, Any], given_hw: tuple[int | None, int | None], path: Path, notices: Notices
) -> Box:
    """Corners x1, y1, x2, y2, in absolute pixels.

    Those of `bbox`, turned where `attributes.rotation` says so; without it the bounds of `segmentation`.

    Raises:
        DataError: there is neither, or the box is faulty.

    """
    box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    where = f"{path}: annotation {annotation.get('id')} of image {annotation['image_id']}"
    if not box and segmentation:  # tools that draw outlines leave the box out
        size_hw = (given_hw[0], given_hw[1]) if given_hw[0] and given_hw[1] else None
        try:
            return segmentation_box(segmentation, size_hw)
        except ValueError as error:
            raise DataError(f"{where}: no bbox, and its segmentation cannot be used: {error}") from None
    numbers = _numbers(box, where, notices)
    if numbers is None:
        raise DataError(
            f"{where}: bbox must be four numbers [x, y, width, height], got {box!r}: correct or remove it"
        )
    x, y, width, height = numbers
    if not all(map(_finite, numbers)):
        line = f"{where}: bbox {box} is not finite (NaN or infinite): correct or remove it"
        raise DataError(line, kind="box-not-finite")
    if width < 0 or height < 0:
        raise DataError(
            f"{where}: bbox {box} has a negative width or height: correct or remove it", kind="box-swapped"
        )
    own = annotation.get("attributes")
    return turned_bounds(
        (x, y, x + width, y + height), own.get("rotation") if isinstance(own, dict) else None, where, notices
    )


def given_xywh(annotation: Mapping[str, Any]) -> tuple[float, ...]:
    """`bbox` as it stands, with every digit; NaN where there is none. Whether it is the box is for others to say."""
    try:
        left, top, width, height = map(float, annotation["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return (math.nan,) * 4
    return left, top, width, height


def is_crowd(annotation: Mapping[str, Any], path: Path) -> bool:
    """Whether it marks a group.

    Raises:
        DataError: neither yes nor no.

    """
    crowd = annotation.get("iscrowd") or 0
    crowd = (
        {"0": 0, "1": 1, "false": 0, "true": 1}.get(crowd.strip().lower(), crowd) if isinstance(crowd, str) else crowd
    )
    if crowd not in (0, 1):
        raise DataError(f"{path}: annotation {annotation.get('id')}: iscrowd must be 0 or 1, got {crowd!r}")
    return bool(crowd)


def is_truncated(annotation: Mapping[str, Any]) -> bool:
    """Whether the object continues outside of the image, as CVAT and Pascal VOC mark it."""
    own = annotation.get("attributes")
    given = own.get("truncated") if isinstance(own, dict) else annotation.get("truncated")
    return given in (1, "1", "true", "True")


def annotation_area(annotation: Mapping[str, Any], path: Path) -> float | None:
    """Its own area in square pixels, None where it states none.

    Raises:
        DataError: no number, or a negative one.

    """
    given = annotation.get("area")
    if given is None:
        return None
    area = _number(given)
    if area is None or not _finite(area) or not 0 <= area < _LARGEST_AREA_PX:
        raise DataError(f"{path}: annotation {annotation.get('id')}: area must be a number >= 0, got {given!r}")
    return float(area)


def _numbers(box: Any, where: str, notices: Notices) -> list[float] | None:
    """Four numbers, written as numbers or as text."""
    given = [part for part in _SEPARATORS.split(box) if part] if isinstance(box, str) else box
    if not isinstance(given, list) or len(given) != 4:
        return None
    numbers = [number for number in map(_number, given) if number is not None]
    if len(numbers) != 4:
        return None
    if any(isinstance(value, str) for value in given):
        notices.count("box", "boxes", "written as text: read as numbers", where)
    return numbers


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON knows whole numbers that no float can hold
        return False
