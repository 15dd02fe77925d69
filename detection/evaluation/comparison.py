"""Two detectors on the same images: the differences of their metrics, with confidence intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detection.evaluation.evaluation import Evaluation
from detection.evaluation.intervals import CONFIDENCE, Difference, differences
from detection.runtime.errors import SwathError


def compare(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """Compare two detectors by their headline metrics, on the same images.

    Args:
        first: one detector's evaluation.
        second: the other's; changes are second minus first.

    Raises:
        SwathError: the images or their boxes are not the same.

    """
    one, other = first.dataset, second.dataset
    if one.fingerprint() != other.fingerprint():
        raise SwathError(
            f"the two models see different images of {one.name} ({len(one)} and {len(other)}), so they "
            "cannot be compared: --whole and --unlabelled make both read them in the same way"
        )
    return differences(first.metrics.matches, second.metrics.matches, first.resamples)


def comparison_json(changes: dict[str, Difference], models: Sequence[Path], second: Evaluation) -> str:
    """Content of `comparison.json`: stable keys, fractions."""
    content = {
        "schema": 2,
        "first": str(models[0]),
        "second": str(models[1]),
        "dataset": second.dataset.name,
        "dataset_fingerprint": second.dataset.fingerprint(),
        "confidence": CONFIDENCE,
        "grouped_by": second.grouped_by,
        "groups": len(set(second.groups)),
        "differences": {
            name: {
                "first": d.first,
                "second": d.second,
                "change": d.change.to_dict() if d.change else None,
                "significant": d.significant,
            }
            for name, d in changes.items()
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
