"""The report as one HTML page with thumbnails and histograms, that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from data.check.check import Part
from data.check.findings import Example, Finding, Report
from data.errors import DataError
from data.images import read_image
from data.palette import LINE_COLOURS_HEX

SHOWN = 4
"""The most thumbnails, or pairs of them, below each finding."""

_THUMBNAIL_PX = 260
_JPEG_QUALITY = 80
_MARK = (0, 94, 213)  # vermilion, BGR
_WITHOUT_IMAGES = ("background", "exif-orientation")


def page(report: Report, parts: Sequence[Part], *, title: str) -> str:
    """The page as text. Images that cannot be read are named instead of shown."""
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    names = list(report.parts)
    classes = list(dict.fromkeys(name for numbers in report.parts.values() for name in numbers["classes"]))
    charts = {
        "Boxes of each class": {n: {c: p["classes"].get(c, 0) for c in classes} for n, p in report.parts.items()},
        "Size of boxes: square root of the area, px at the network's input": _of(report, "box_side_px"),
        "Shape of boxes: width over height": _of(report, "box_aspect"),
        "Boxes in an image": _of(report, "boxes_per_image"),
    }
    return pages.get_template("page.html.j2").render(
        title=title,
        tally=report.tally(),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        report=report,
        sources={part.name: part.dataset.name for part in parts if part.dataset is not None},
        colours=dict(zip(names, LINE_COLOURS_HEX * (1 + len(names) // len(LINE_COLOURS_HEX)), strict=False)),
        findings=[(found, _shown(found)) for found in report.findings],
        charts={heading: _bars(parts_) for heading, parts_ in charts.items()},
    )


def _of(report: Report, histogram: str) -> dict[str, dict[str, int]]:
    return {name: numbers[histogram] for name, numbers in report.parts.items()}


def _bars(parts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """One row for each bin: its name, and for each part count and share of the part's largest bin in percent."""
    most = {part: max(1, *counts.values()) if counts else 1 for part, counts in parts.items()}
    bins = list(dict.fromkeys(name for counts in parts.values() for name in counts))
    return [
        {
            "name": name,
            "parts": [(part, counts[name], 100 * counts[name] / most[part]) for part, counts in parts.items()],
        }
        for name in bins
        if any(counts[name] for counts in parts.values())
    ]


def _shown(found: Finding) -> list[dict[str, Any]]:
    """Thumbnails of the first examples; an empty list where there is nothing to see."""
    if found.kind in _WITHOUT_IMAGES:
        return []
    figures = []
    for example in found.examples[:SHOWN]:
        files = [example.where, *([example.other] if example.other else [])]
        jpegs = [jpeg for file in files if (jpeg := _thumbnail(Path(file), example)) is not None]
        if jpegs:
            figures.append({"names": [Path(f).name for f in files], "jpegs": jpegs, "detail": _detail(example)})
    return figures


def _detail(example: Example) -> str:
    if example.box_xyxy is None:
        return example.detail
    corners = ", ".join(f"{v:.6g}" for v in example.box_xyxy)
    return f"box {corners}" + (f": {example.detail}" if len(example.detail) < 60 else "")


def _thumbnail(file: Path, example: Example) -> str | None:
    """Base64 of a JPEG; with a box, the part of the image around it."""
    try:
        image = read_image(file) if file.is_file() else None
    except DataError:
        image = None
    if image is None:
        return None
    if example.box_xyxy is not None and np.isfinite(example.box_xyxy).all():
        image = _around(image, example.box_xyxy)
    scale = _THUMBNAIL_PX / max(image.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=how), np.uint8)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()


def _around(image: NDArray[np.uint8], box_xyxy: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The image around a box that may lie in part or wholly outside of it, with the box drawn."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if x2 < -width or y2 < -height or x1 > 2 * width or y1 > 2 * height:
        return image
    middle_x, middle_y, side = (x1 + x2) / 2, (y1 + y2) / 2, max(4 * max(x2 - x1, y2 - y1), 96.0)
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:  # both the image and the box beside it
        spans = (min(0.0, x1), max(float(width), x2)), (min(0.0, y1), max(float(height), y2))
        middle_x, middle_y = (sum(span) / 2 for span in spans)
        side = 1.1 * max(end - start for start, end in spans)
    left, top = middle_x - side / 2, middle_y - side / 2
    zoom = _THUMBNAIL_PX / side
    moved = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    crop = cv2.warpAffine(image, moved, size, flags=cv2.INTER_LINEAR, borderValue=(205, 210, 205))
    start, end = ((round((x - left) * zoom), round((y - top) * zoom)) for x, y in ((x1, y1), (x2, y2)))
    cv2.rectangle(crop, start, end, _MARK, 2, cv2.LINE_AA)
    return np.asarray(crop, np.uint8)
