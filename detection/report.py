"""`report.html`: what a person wants to see of an evaluation, in one file that needs no network."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.checkpoint import write_whole
from detection.coco_metrics import ClassMetrics
from detection.evaluate import Evaluation, metrics_json
from detection.matching import MATCH_IOU, Outcome, judge

MISTAKES = {
    "class": "covers a plant of another class",
    "location": "on the right plant, but laid badly: IoU below 0.5",
    "both": "of another class and laid badly",
    "duplicate": "one more box on a plant that is found already",
    "background": "on nothing that is labelled",
    "missed": "a plant that no detection was about",
}
"""The kinds of mistakes of `detection.lost_ap`, in a reader's words."""

SHOWN_PICTURES = 12
"""So many pictures stand in the report: those with the most mistakes."""

_THUMBNAIL_WIDTH_PX = 560
_JPEG_QUALITY = 82
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.38
# Okabe and Ito's palette, told apart by every kind of colour vision; BGR for OpenCV.
_HIT, _FALSE, _MISSED = (115, 158, 0), (0, 94, 213), (233, 180, 86)
_CURVE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def write_evaluation(folder: Path, evaluation: Evaluation, dataset: Dataset, *, model: str) -> None:
    """Write `metrics.json`, `detections.json` (COCO results) and `report.html` into `folder`.

    Raises:
        DataError: a picture that the report shows cannot be read any more.

    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "metrics.json": metrics_json(evaluation, dataset, model),
        "detections.json": json.dumps(evaluation.results) + "\n",
        "report.html": html_report(evaluation, dataset, model=model),
    }
    for name, text in texts.items():
        write_whole(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]


def html_report(evaluation: Evaluation, dataset: Dataset, *, model: str) -> str:
    """The page as text."""
    metrics = evaluation.metrics
    # A class without a usable threshold has no detection worth showing.
    thresholds = np.array(
        [1.1 if (t := metrics.per_class[n].threshold) is None else t for n in dataset.class_names], np.float32
    )
    outcomes = [
        judge(p.boxes_xyxy[~p.iscrowd], p.labels[~p.iscrowd], f, thresholds)
        for p, f in zip(dataset.pictures, evaluation.found, strict=True)
    ]
    worst = sorted(range(len(outcomes)), key=lambda i: -outcomes[i].mistakes)[:SHOWN_PICTURES]
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    pages.filters["number"] = lambda value: "–" if value is None or value < 0 else f"{value:.3f}"
    return pages.get_template("report.html.j2").render(
        model=model,
        dataset=dataset,
        fingerprint=dataset.fingerprint(),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        coco=metrics.coco,
        per_class=metrics.per_class,
        lost=evaluation.lost,
        mistakes=MISTAKES,
        slices=evaluation.slices,
        notices=evaluation.notices,
        hits=sum(int(o.hit.sum()) for o in outcomes),
        false_alarms=sum(int((~o.hit).sum()) for o in outcomes),
        missed=sum(int((~o.found).sum()) for o in outcomes),
        curves=_curves(metrics.per_class),  # type: ignore[arg-type]
        pictures=[_shown(dataset, i, outcomes[i]) for i in worst],
        match_iou=MATCH_IOU,
    )


def _curves(per_class: dict[str, ClassMetrics]) -> list[dict[str, Any]]:
    """Precision over recall at IoU 0.5, each class as an SVG polyline in a square of 100."""
    curves = []
    for number, (name, scored) in enumerate(per_class.items()):
        if scored.boxes == 0:
            continue
        points = zip(scored.curve_recall, np.maximum(scored.curve_precision, 0), strict=True)
        curves.append(
            {
                "name": name,
                "colour": _CURVE_COLOURS[number % len(_CURVE_COLOURS)],
                "dash": ("", "6 3", "2 2")[number // len(_CURVE_COLOURS) % 3],
                "points": " ".join(f"{100 * r:.1f},{100 - 100 * p:.1f}" for r, p in points),
                "at": None
                if scored.threshold is None
                else (100 * scored.recall, 100 - 100 * scored.precision, scored.threshold),
            }
        )
    return curves


def _shown(dataset: Dataset, index: int, outcome: Outcome) -> dict[str, Any]:
    picture = dataset.pictures[index]
    image = picture.read()
    scale = min(1.0, _THUMBNAIL_WIDTH_PX / image.shape[1])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    captions: list[tuple[NDArray[Any], tuple[int, int, int], str]] = []
    for box, label, was_found in zip(
        picture.boxes_xyxy[~picture.iscrowd], picture.labels[~picture.iscrowd], outcome.found, strict=True
    ):
        if not was_found:
            _outline(image, box * scale, _MISSED, dashed=True)
            captions.append((box * scale, _MISSED, f"missed {dataset.class_names[label]}"))
    kept = outcome.kept
    for box, label, score, hit in zip(kept.boxes, kept.labels, kept.scores, outcome.hit, strict=True):
        name = dataset.class_names[label]
        _outline(image, box * scale, _HIT if hit else _FALSE)
        captions.append((box * scale, _HIT, name) if hit else (box * scale, _FALSE, f"{name} {score:.2f}"))
    _write_captions(image, captions)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return {
        "name": picture.path.name,
        "jpeg": base64.b64encode(encoded.tobytes()).decode(),
        "hits": int(outcome.hit.sum()),
        "false_alarms": int((~outcome.hit).sum()),
        "missed": int((~outcome.found).sum()),
    }


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


def _write_captions(image: NDArray[np.uint8], captions: list[tuple[NDArray[Any], tuple[int, int, int], str]]) -> None:
    """A chip of the box's colour at each box, where it hides the least of the chips before it."""
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
