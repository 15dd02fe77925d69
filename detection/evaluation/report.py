"""`report.html`: an evaluation as one page that needs no network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from data.files import write_whole
from detection.evaluation.calibration import calibration
from detection.evaluation.coco_metrics import ClassMetrics
from detection.evaluation.evaluation import RESAMPLES, Evaluation
from detection.evaluation.matching import MATCH_IOU
from detection.evaluation.metrics_json import metrics_json
from detection.evaluation.report_images import shown
from detection.evaluation.robustness import STRENGTHS, Robustness
from detection.runtime.palette import LINE_COLOURS_HEX

ERROR_TYPES = {
    "class": "correct location, wrong class",
    "location": "correct class, poor location: IoU from 0.1 to below 0.5",
    "both": "wrong class and poor location",
    "duplicate": "second box on an object that is already detected",
    "background": "no labelled object there",
    "missed": "labelled object without any detection",
}
"""Explanations of `detection.evaluation.error_breakdown.KINDS`."""


def write_evaluation(
    folder: Path, evaluation: Evaluation, *, model: str, robustness: Robustness | None = None
) -> None:
    """Write `metrics.json`, `detections.json` (COCO results) and `report.html` into `folder`.

    Raises:
        DataError: an image that the report shows cannot be read any more, or a file cannot be written.

    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "metrics.json": metrics_json(evaluation, model, robustness.to_dict() if robustness else None),
        "detections.json": json.dumps(evaluation.results) + "\n",
        "report.html": html_report(evaluation, model=model, robustness=robustness),
    }
    for name, text in texts.items():
        write_whole(folder / name, text)


def html_report(evaluation: Evaluation, *, model: str, robustness: Robustness | None = None) -> str:
    """The page as HTML.

    Raises:
        DataError: an image that the page shows cannot be read any more.

    """
    dataset, metrics = evaluation.dataset, evaluation.metrics
    kinds = Counter(pair.kind for pair in evaluation.pairs)
    images, crops = shown(dataset, evaluation.pairs)
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    pages.filters["number"] = lambda value: "–" if value is None or value < 0 else f"{value:.3f}"
    pages.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    pages.filters["ends"] = lambda i: "" if i.value < 0 else f"{i.low:.3f} to {i.high:.3f}"
    return pages.get_template("report.html.j2").render(
        model=model,
        dataset=dataset,
        fingerprint=dataset.fingerprint(),
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        coco=metrics.coco,
        per_class=metrics.per_class,
        class_intervals=evaluation.class_intervals,
        sizes=metrics.sizes,
        latency_ms=evaluation.latency_ms,
        runs_on=evaluation.runs_on,
        statistics=evaluation.statistics,
        intervals=evaluation.intervals,
        grouped_by=evaluation.grouped_by,
        groups=len(set(evaluation.groups)),
        resamples=RESAMPLES,
        error_breakdown=evaluation.error_breakdown,
        operating_point=evaluation.operating_point,
        counting=evaluation.counting,
        sprayer=evaluation.sprayer,
        sprayed=evaluation.sprayed,
        at_best=evaluation.sprayed_at_best,
        trade_off=evaluation.trade_off,
        model_thresholds=evaluation.model_thresholds,
        error_types=ERROR_TYPES,
        parts=evaluation.parts,
        robustness=robustness,
        strengths=STRENGTHS,
        confusion=_confusion(evaluation.confusion, dataset.class_names),
        calibration=calibration(metrics.matches),
        notices=evaluation.notices,
        true_positives=kinds["true_positive"],
        false_positives=kinds["false_positive"] + kinds["confusion"],
        false_negatives=kinds["false_negative"] + kinds["confusion"],
        curves=_curves(metrics.per_class),  # type: ignore[arg-type]
        images=images,
        crops=crops,
        match_iou=MATCH_IOU,
    )


def _confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> list[tuple[str, list[tuple[int, float]]]]:
    """Name of each row, and count and share of the row of each cell."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        (name, list(zip(counts.tolist(), row.tolist(), strict=True)))
        for name, counts, row in zip((*names, "background"), matrix, shares, strict=True)
    ]


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
                "colour": LINE_COLOURS_HEX[number % len(LINE_COLOURS_HEX)],
                "dash": ("", "6 3", "2 2")[number // len(LINE_COLOURS_HEX) % 3],
                "points": " ".join(f"{100 * r:.1f},{100 - 100 * p:.1f}" for r, p in points),
                "f1": _f1_over_score(scored),
                "at": None
                if scored.threshold is None
                else (100 * scored.recall, 100 - 100 * scored.precision, scored.threshold),
            }
        )
    return curves


def _f1_over_score(scored: ClassMetrics) -> str:
    """An SVG polyline in a square of 100; the curve's points are those of COCO's recalls that are reached."""
    precision, recall = scored.curve_precision, scored.curve_recall
    reached = precision > 0
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    points = zip(scored.curve_score[reached], f1[reached], strict=True)
    return " ".join(f"{100 * s:.1f},{100 - 100 * f:.1f}" for s, f in points)
