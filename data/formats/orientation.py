"""Boxes that are not upright: drawn on an image lying on its side by EXIF, or turned themselves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.formats.repair import Notices
from data.images import image_header, upright_boxes


def boxes_as_displayed(
    boxes_xyxy: NDArray[np.float64], given_hw: tuple[Any, Any], file: Path, source: Path, notices: Notices
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Boxes (N, 4) as a label file gives them -> boxes on the image as displayed, and its height and width.

    Args:
        boxes_xyxy: absolute pixels of the image as the labelling tool showed it.
        given_hw: the size that the label file states, (None, None) where it states none.
        file: the image; its header is read.
        source: the label file, for messages.
        notices: receives a count of the images whose boxes were turned.

    Raises:
        DataError: the image cannot be read, or is not the one that was labelled: its size differs.

    """
    stored_hw, orientation = image_header(file)
    size_hw = (stored_hw[1], stored_hw[0]) if orientation >= 5 else stored_hw
    if given_hw in (size_hw, (None, None)):
        return boxes_xyxy, size_hw
    if given_hw != stored_hw or (boxes_xyxy[:, 2:] > np.array(stored_hw[::-1]) + 2.0).any():
        raise DataError(
            f"{source}: gives {file.name} as {given_hw[1]} x {given_hw[0]}, the image is "
            f"{size_hw[1]} x {size_hw[0]}: its boxes belong to another version of the image",
            kind="size-mismatch",
        )
    # The labels were drawn by a tool that ignores EXIF.
    rest = "labelled on its side (sizes in the labels ignore EXIF orientation): boxes turned upright"
    notices.count("image", "images", rest, file.name, kind=None)
    notices.note("exif-turned", rest, str(file))
    return upright_boxes(boxes_xyxy, stored_hw, orientation), size_hw


def turned_bounds(
    box_xyxy: tuple[float, float, float, float], degrees: Any, where: str, notices: Notices
) -> tuple[float, float, float, float]:
    """The upright bounds of a box that a labelling tool has turned about its centre.

    Args:
        box_xyxy: the box before it was turned, absolute pixels.
        degrees: the angle, as a number or text; the direction does not matter. None or 0: not turned.
        where: what gives it, for messages.
        notices: receives a count of the turned boxes.

    Raises:
        DataError: the angle is no number.

    """
    try:
        angle = math.radians(float(degrees or 0))
    except (TypeError, ValueError, OverflowError):
        angle = math.nan
    if not math.isfinite(angle):
        raise DataError(f"{where}: rotation must be an angle in degrees, got {degrees!r}")
    if angle % math.pi == 0:
        return box_xyxy
    x1, y1, x2, y2 = box_xyxy
    along, across = abs(math.cos(angle)), abs(math.sin(angle))
    width, height = (x2 - x1) * along + (y2 - y1) * across, (x2 - x1) * across + (y2 - y1) * along
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    notices.count("turned box", "turned boxes", "taken as their upright bounds", where)
    return centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2
