"""Images of a report: those with the most errors, and the worst errors one by one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data import Dataset, LabelledImage
from detection.evaluation.confusion import Kind, Pair
from detection.evaluation.error_breakdown import BACKGROUND_IOU
from detection.evaluation.matching import MATCH_IOU
from detection.runtime.boxes import iou
from detection.runtime.palette import BLUISH_GREEN, SKY_BLUE, VERMILLION, bgr

SHOWN_IMAGES = 12
"""Number of whole images shown: those with the most errors."""

SHOWN_ERRORS = 12
"""Number of errors shown of each kind: false positives and confusions by score, missed boxes by size."""

_THUMBNAIL_WIDTH_PX = 560
_CROP_PX, _AROUND = 220, 1.8  # a crop's side, and how much of it shows beyond the boxes
_LEAST_CROP = 0.08  # of the image's longer side
_JPEG_QUALITY = 82
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38
_CORRECT, _FALSE, _MISSED = bgr(BLUISH_GREEN), bgr(VERMILLION), bgr(SKY_BLUE)


@dataclass(frozen=True)
class Shown:
    """A whole image.

    Attributes:
        name: of its file.
        jpeg: the image as base64.
        true_positives, false_positives, false_negatives: number of each; a confusion counts as both errors.

    """

    name: str
    jpeg: str
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True)
class Crop:
    """One error.

    Attributes:
        kind: of error.
        classes: names of the classes involved, to filter by.
        caption: description of the error.
        name: of the image's file.
        jpeg: the image as base64.

    """

    kind: Kind
    classes: tuple[str, ...]
    caption: str
    name: str
    jpeg: str


def shown(dataset: Dataset, matched: Sequence[Pair]) -> tuple[list[Shown], list[Crop]]:
    """Images and crops for the report; every image is read once, and none is kept.

    Args:
        dataset: the ground truth.
        matched: as `detection.evaluation.confusion.pairs` gives them.

    Raises:
        DataError: an image cannot be read any more.

    """
    of_image: list[list[Pair]] = [[] for _ in dataset.images]
    for pair in matched:
        of_image[pair.image].append(pair)
    # a confusion is a false positive and a false negative at once
    count = [sum({"true_positive": 0, "confusion": 2}.get(pair.kind, 1) for pair in own) for own in of_image]
    whole = sorted(range(len(dataset)), key=lambda i: -count[i])[:SHOWN_IMAGES]
    worst: list[Pair] = []
    for kind in ("false_positive", "confusion", "false_negative"):
        own = [pair for pair in matched if pair.kind == kind]
        worst += sorted(own, key=_size_of if kind == "false_negative" else _score_of, reverse=True)[:SHOWN_ERRORS]
    images: dict[int, Shown] = {}
    crops: dict[int, Crop] = {}
    for index in sorted({*whole, *(pair.image for pair in worst)}):
        image = dataset.images[index].read()
        for place, pair in enumerate(worst):
            if pair.image == index:
                crops[place] = _crop(dataset, image, pair)
        if index in whole:
            images[index] = _whole(dataset, index, image, of_image[index])
    return [images[index] for index in whole], [crops[place] for place in sorted(crops)]


def _score_of(pair: Pair) -> float:
    return pair.score


def _size_of(pair: Pair) -> float:
    box = pair.truth_xyxy
    return 0.0 if box is None else float(np.prod(box[2:] - box[:2]))


def _caption(pair: Pair, names: Sequence[str], truth: LabelledImage) -> str:
    if pair.found_xyxy is None:
        return f"{names[pair.truth_label]} missed"
    found = f"{names[pair.found_label]} {pair.score:.2f}"
    if pair.kind != "false_positive":
        return f"{names[pair.truth_label]} detected as {found}"
    real = ~truth.iscrowd
    overlaps = iou(pair.found_xyxy, truth.boxes_xyxy[real])
    if overlaps.max(initial=0.0) < BACKGROUND_IOU:
        return f"{found} on background"
    nearest = names[int(truth.labels[real][overlaps.argmax()])]
    if overlaps.max() < MATCH_IOU:
        return f"{found} poorly located: IoU {overlaps.max():.2f} with a {nearest}"
    return f"{found}: second box on a {nearest}"


def _crop(dataset: Dataset, image: NDArray[np.uint8], pair: Pair) -> Crop:
    boxes = np.array([box for box in (pair.truth_xyxy, pair.found_xyxy) if box is not None], np.float64)
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    height, width = image.shape[:2]
    side = max(_AROUND * float((high - low).max()), _LEAST_CROP * max(height, width))
    corner = np.rint((low + high) / 2 - side / 2).astype(int)
    x1, y1 = (int(v) for v in np.maximum(corner, 0))
    x2, y2 = min(width, int(corner[0] + side) + 1), min(height, int(corner[1] + side) + 1)
    scale = _CROP_PX / max(x2 - x1, y2 - y1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(image[y1:y2, x1:x2], None, fx=scale, fy=scale, interpolation=how), np.uint8)
    offset = np.array([x1, y1, x1, y1])
    truth = dataset.images[pair.image]
    for box in truth.boxes_xyxy[~truth.iscrowd]:  # all of them: the intended one may be beside it
        _outline(part, (box - offset) * scale, _MISSED, dashed=True)
    if pair.found_xyxy is not None:
        _outline(part, (pair.found_xyxy - offset) * scale, _FALSE)
    names = dataset.class_names
    classes = tuple(names[label] for label in dict.fromkeys((pair.truth_label, pair.found_label)) if label >= 0)
    file = dataset.images[pair.image].path.name
    return Crop(pair.kind, classes, _caption(pair, names, truth), file, _jpeg(part))


def _whole(dataset: Dataset, index: int, image: NDArray[np.uint8], own: Sequence[Pair]) -> Shown:
    scale = min(1.0, _THUMBNAIL_WIDTH_PX / image.shape[1])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    names = dataset.class_names
    captions: list[tuple[NDArray[Any], tuple[int, int, int], str]] = []
    for pair in own:
        if pair.truth_xyxy is not None and pair.kind != "true_positive":
            box = pair.truth_xyxy * scale
            _outline(image, box, _MISSED, dashed=True)
            captions.append((box, _MISSED, f"missed {names[pair.truth_label]}"))
    for pair in own:
        if pair.found_xyxy is not None:
            box, hit = pair.found_xyxy * scale, pair.kind == "true_positive"
            _outline(image, box, _CORRECT if hit else _FALSE)
            name = names[pair.found_label]
            captions.append((box, _CORRECT, name) if hit else (box, _FALSE, f"{name} {pair.score:.2f}"))
    write_captions(image, captions)
    kinds = [pair.kind for pair in own]
    confused = kinds.count("confusion")
    return Shown(
        dataset.images[index].path.name,
        _jpeg(image),
        kinds.count("true_positive"),
        kinds.count("false_positive") + confused,
        kinds.count("false_negative") + confused,
    )


def _jpeg(image: NDArray[np.uint8]) -> str:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()


def _outline(
    image: NDArray[np.uint8], box: NDArray[Any], colour: tuple[int, int, int], *, dashed: bool = False
) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    if not dashed:
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
        return
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1))
    for (ax, ay), (bx, by) in pairwise(corners):
        pieces = max(1, (abs(bx - ax) + abs(by - ay)) // 5)
        for k in range(0, pieces, 2):
            start = (ax + (bx - ax) * k // pieces, ay + (by - ay) * k // pieces)
            end = (ax + (bx - ax) * (k + 1) // pieces, ay + (by - ay) * (k + 1) // pieces)
            cv2.line(image, start, end, colour, 2, cv2.LINE_AA)


def write_captions(image: NDArray[np.uint8], captions: list[tuple[NDArray[Any], tuple[int, int, int], str]]) -> None:
    """Draw a caption at each box in its colour, placed to cover earlier captions as little as possible."""
    height, width = image.shape[:2]
    taken: list[tuple[int, int, int, int]] = []
    for box, colour, text in captions:
        (text_w, text_h), baseline = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
        chip_w, chip_h = text_w + 4, text_h + baseline + 2
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        spots = [
            (min(max(0, x), max(0, width - chip_w)), min(max(0, y), max(0, height - chip_h)))
            for y in (y1 - chip_h, y2, y1, y2 - chip_h, y1 - 2 * chip_h, y2 + chip_h)
            for x in (x1 - 1, x2 + 1 - chip_w)
        ]
        hidden = [sum(_overlap_px((x, y, x + chip_w, y + chip_h), other) for other in taken) for x, y in spots]
        x, y = spots[int(np.argmin(hidden))]
        taken.append((x, y, x + chip_w, y + chip_h))
        cv2.rectangle(image, (x, y), (x + chip_w - 1, y + chip_h - 1), colour, cv2.FILLED)
        ink = (0, 0, 0) if colour == _MISSED else (255, 255, 255)
        cv2.putText(image, text, (x + 2, y + text_h + 1), _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)


def _overlap_px(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> int:
    """Area that two rectangles x1, y1, x2, y2 share."""
    wide, high = (min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1))
    return max(0, wide) * max(0, high)
