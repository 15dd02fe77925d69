"""Draws detections on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections
from detection.runtime.palette import CLASS_COLOURS_RGB, bgr

Colour = tuple[int, int, int]

_BLACK: Colour = (20, 20, 20)
_WHITE: Colour = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_colour(label: int) -> Colour:
    """The colour of a class as BGR, 0 to 255 each; repeats after seven classes."""
    return bgr(CLASS_COLOURS_RGB[label % len(CLASS_COLOURS_RGB)])


def annotate(
    image_bgr: NDArray[np.uint8],
    detections: Detections,
    class_names: Sequence[str],
    hud: str | None = None,
    *,
    scores: bool = True,
    truth_xyxy: NDArray[np.float32] | None = None,
    counted: Mapping[str, int] | None = None,
) -> NDArray[np.uint8]:
    """A copy of an image with boxes, a label "class 0.87" (and track id) at each, and lines of text at the top.

    Lines and text grow with the image, so that a 12-megapixel photo reads like a small one.

    Args:
        image_bgr: uint8 (H, W, 3); stays as it is.
        detections: boxes in its pixels; track ids below 1 are not drawn.
        class_names: by label.
        hud: text in the top left corner; None for none.
        scores: whether to show scores; ground truth has none.
        truth_xyxy: float32 (M, 4), boxes to compare with, dashed in white; None for none.
        counted: plants so far by class name, under the text at the top; their sum where they do not all fit.

    Returns:
        uint8 (H, W, 3) BGR.

    """
    canvas = image_bgr.copy()
    height, width = canvas.shape[:2]
    text_px = min(max(11.0, 0.024 * min(height, width)), 0.2 * min(height, width))
    line_px = max(2, round(text_px / 7))
    # The highest score last, so that it is on top.
    order = np.argsort(detections.scores, kind="stable")
    for i in order:
        _box(canvas, detections.boxes_xyxy[i], class_colour(int(detections.labels[i])), line_px)
    for box in () if truth_xyxy is None else truth_xyxy:
        _dashed(canvas, box, line_px)
    lines: list[tuple[str, Colour | None]] = [(hud, None)] if hud else []
    counts: list[tuple[str, Colour | None]] = []
    if counted and any(counted.values()):
        seen = [(label, name) for label, name in enumerate(class_names) if counted.get(name)]
        counts += [(f"{name} {counted[name]:,}", class_colour(label)) for label, name in seen]
        if len(counts) * 2 * text_px > 0.45 * height:  # they would cover the image
            counts = [(f"{sum(counted.values()):,} plants", None)]
    lines += counts
    hud_wh = _hud(canvas, lines, text_px) if lines else (0, 0)
    for i in order:
        label = int(detections.labels[i])
        text = f"{class_names[label]} {detections.scores[i]:.2f}" if scores else class_names[label]
        if detections.track_ids is not None and detections.track_ids[i] > 0:
            text = f"#{detections.track_ids[i]} {text}"
        x1, y1, _, y2 = (round(float(v)) for v in detections.boxes_xyxy[i])
        _chip(canvas, text, (x1 - line_px, y1, y2), class_colour(label), text_px, hud_wh)
    return canvas


def _box(canvas: NDArray[np.uint8], box_xyxy: NDArray[np.float32], colour: Colour, line_px: int) -> None:
    # Drawn at 1/16 pixel, so that a box does not jump between whole pixels from frame to frame.
    shift = 4
    # Continuous corners: the box 3.0 to 4.0 covers the pixel whose centre OpenCV calls 3.
    x1, y1, x2, y2 = (int(v) for v in np.round((box_xyxy - 0.5) * (1 << shift)))
    outline = line_px + 2  # a thin dark rim: seen on bright sky and on dark soil
    cv2.rectangle(canvas, (x1, y1), (x2, y2), _BLACK, outline, cv2.LINE_AA, shift)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, line_px, cv2.LINE_AA, shift)


def _dashed(canvas: NDArray[np.uint8], box_xyxy: NDArray[np.float32], line_px: int) -> None:
    """White dashes with gaps between them dark, so that they are seen on bright and on dark ground."""
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1))
    for (ax, ay), (bx, by) in pairwise(corners):
        pieces = max(2, round((abs(bx - ax) + abs(by - ay)) / (3 * line_px)))
        along = np.linspace((ax, ay), (bx, by), pieces + 1).round().astype(int)
        for number, (start, end) in enumerate(pairwise(along.tolist())):
            cv2.line(canvas, start, end, _BLACK if number % 2 else _WHITE, line_px)


def _chip(
    canvas: NDArray[np.uint8],
    text: str,
    anchor: tuple[int, int, int],
    colour: Colour,
    text_px: float,
    hud_wh: tuple[int, int],
) -> None:
    """A filled label above the box, below it where there is no room, inside the image and clear of the HUD."""
    left, top, bottom = anchor
    height, width = canvas.shape[:2]
    (text_w, text_h), baseline, scale, weight = _measure(text, text_px)
    pad = max(2, round(text_px * 0.22))
    chip_w, chip_h = text_w + 2 * pad, text_h + baseline + pad
    x = min(max(0, left), max(0, width - chip_w))
    y = top - chip_h
    if y < 0:
        y = min(bottom, height - chip_h) if bottom + chip_h <= height else max(0, top)
    if x < hud_wh[0] and y < hud_wh[1]:
        y = hud_wh[1]
    cv2.rectangle(canvas, (x, y), (x + chip_w, y + chip_h), colour, cv2.FILLED)
    ink = _BLACK if _luminance(colour) > 105 else _WHITE
    origin = (x + pad, y + chip_h - baseline - pad // 2)
    cv2.putText(canvas, text, origin, _FONT, scale, ink, weight, cv2.LINE_AA)


def _hud(canvas: NDArray[np.uint8], lines: Sequence[tuple[str, Colour | None]], text_px: float) -> tuple[int, int]:
    """Lines of text in the top left corner, with a square of a colour before some; the size that it takes."""
    sizes = [_measure(text, text_px) for text, _ in lines]
    scale, weight = sizes[0][2:]
    pad = round(text_px * 0.5)
    text_h = max(size[0][1] for size in sizes)
    step = text_h + max(size[1] for size in sizes) + pad
    indent = [0 if colour is None else text_h + pad for _, colour in lines]
    strip = canvas[
        : step * len(lines) + pad,
        : max(size[0][0] + more for size, more in zip(sizes, indent, strict=True)) + 2 * pad,
    ]
    # Darkened, not painted over: the field stays visible under it.
    strip[:] = (strip * 0.4).astype(np.uint8)
    for number, ((text, colour), more) in enumerate(zip(lines, indent, strict=True)):
        base = pad + text_h + step * number
        if colour is not None:
            cv2.rectangle(canvas, (pad, base - text_h), (pad + text_h, base), colour, cv2.FILLED)
        cv2.putText(canvas, text, (pad + more, base), _FONT, scale, _WHITE, weight, cv2.LINE_AA)
    return strip.shape[1], strip.shape[0]


def _measure(text: str, text_px: float) -> tuple[tuple[int, int], int, float, int]:
    """(width, height), baseline, font scale and stroke width of a text `text_px` pixels high."""
    # At scale 1 this font's capitals are about 22 pixels high.
    scale = text_px / 22
    weight = max(1, round(text_px / 11))
    (text_w, text_h), baseline = cv2.getTextSize(text, _FONT, scale, weight)
    return (text_w, text_h), baseline, scale, weight


def _luminance(colour: Colour) -> float:
    """Rec. 709 weights on BGR, 0 to 255."""
    blue, green, red = colour
    return 0.0722 * blue + 0.7152 * green + 0.2126 * red
