"""Two detectors on the same images: which is better, and whether that is more than luck."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from detection.evaluation.evaluate import Evaluation
from detection.evaluation.intervals import CONFIDENCE, Difference, differences
from detection.runtime.errors import SwathError


def compare(first: Evaluation, second: Evaluation) -> dict[str, Difference]:
    """Two detectors on the same images, by the names of the headline numbers.

    Raises:
        SwathError: the images or their boxes are not the same.

    """
    one, other = first.dataset, second.dataset
    if one.fingerprint() != other.fingerprint():
        raise SwathError(
            f"the two models see different images of {one.name} ({len(one)} and {len(other)}), so they "
            "cannot be compared: --whole and --unlabelled read them alike"
        )
    return differences(first.metrics.matches, second.metrics.matches, first.resamples)


def comparison_json(changes: dict[str, Difference], models: Sequence[Path], second: Evaluation) -> str:
    """`comparison.json`: stable keys, fractions."""
    content = {
        "schema": 1,
        "first": str(models[0]),
        "second": str(models[1]),
        "dataset": second.dataset.name,
        "dataset_fingerprint": second.dataset.fingerprint(),
        "confidence": CONFIDENCE,
        "grouped_by": second.grouped_by,
        "groups": len(set(second.groups)),
        "differences": {
            name: {"first": d.first, "second": d.second, "change": d.change.to_dict(), "real": d.real}
            for name, d in changes.items()
        },
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
