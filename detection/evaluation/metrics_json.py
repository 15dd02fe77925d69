"""`metrics.json`, the machine-readable result of an evaluation; `docs/reference/metrics.md` explains every key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from detection.evaluation.calibration import calibration
from detection.evaluation.evaluation import Evaluation
from detection.evaluation.intervals import CONFIDENCE

SCHEMA = 2
"""Of `metrics.json`. Schema 1 named some keys differently, see docs/reference/metrics.md."""


def metrics_json(evaluation: Evaluation, model: str, robustness: Mapping[str, Any] | None = None) -> str:
    """Content of `metrics.json`: stable keys, fractions, -1 where undefined.

    Args:
        evaluation: of a detector.
        model: path of the detector, as given.
        robustness: the `to_dict` of a `Robustness`, if it was evaluated.

    """
    dataset = evaluation.dataset
    content = {
        "schema": SCHEMA,
        "model": model,
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint(),
        "images": len(dataset),
        "boxes": dataset.box_count,
        "coco": dict(evaluation.metrics.coco),
        "AP30": evaluation.metrics.AP30,
        "LAMR": evaluation.metrics.LAMR,
        "intervals": {
            "confidence": CONFIDENCE,
            "grouped_by": evaluation.grouped_by,
            "groups": len(set(evaluation.groups)),
            **{name: interval.to_dict() for name, interval in evaluation.intervals.items()},
        },
        "operating_point": {
            "thresholds": "the model's own" if evaluation.model_thresholds else "best F1 on these images",
            **evaluation.operating_point.to_dict(),
        },
        "counting": {name: one.to_dict() for name, one in evaluation.counting.items()},
        "spraying": _spraying_json(evaluation),
        "per_class": {
            n: m.to_dict() | {"AP50_interval": evaluation.class_intervals[n].to_dict()}
            for n, m in evaluation.metrics.per_class.items()
        },
        "sizes": {name: asdict(size) for name, size in evaluation.metrics.sizes.items()},
        "latency_ms": evaluation.latency_ms,
        "runs_on": evaluation.runs_on,
        "dataset_statistics": evaluation.statistics.to_dict(),
        "error_breakdown": evaluation.error_breakdown.to_dict(),
        "slices": {
            value: {"coco": dict(m.coco), "per_class": {n: c.to_dict() for n, c in m.per_class.items()}}
            for value, m in evaluation.slices.items()
        },
        "parts": [part.to_dict() for part in evaluation.parts],
        "confusion": {
            "rows": [*dataset.class_names, "background"],
            "columns": [*dataset.class_names, "background"],
            "counts": evaluation.confusion.tolist(),
        },
        "calibration": _calibration_json(evaluation),
        "robustness": robustness,
        "notices": list(evaluation.notices),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _calibration_json(evaluation: Evaluation) -> dict[str, Any]:
    got = calibration(evaluation.metrics.matches)
    bins = {"count": got.count.tolist(), "score": got.score.tolist(), "precision": got.precision.tolist()}
    return {"error": got.error, **bins}


def _spraying_json(evaluation: Evaluation) -> dict[str, Any] | None:
    if evaluation.sprayer is None or evaluation.sprayed is None or evaluation.sprayed_at_best is None:
        return None
    curve = [{"threshold": score, **one.to_dict()} for score, one in evaluation.trade_off]
    return {
        "sprayer": evaluation.sprayer.to_dict(),
        **evaluation.sprayed.to_dict(),
        "perfect_detections": evaluation.sprayed_at_best.to_dict(),
        "trade_off": curve,
    }
