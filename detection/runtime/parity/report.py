"""The parity report of a model file: whether it passed, and whether it is the file's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.runtime.compatibility import current_parity_report
from detection.runtime.metadata import ModelMetadata
from detection.runtime.parity.agreement import TOLERANCES
from detection.runtime.parity.budgets import DELTA_AP_POINTS, ap_faults


def parity_fault(path: Path, metadata: ModelMetadata) -> str:
    """What is wrong with a model file's parity report, in one line; empty where it passed.

    The report stands in the file itself. Where `MODEL.parity.json` lies beside it, the two must be equal: a different
    one belongs to another file.

    Args:
        path: the .onnx.
        metadata: of that file.

    """
    report = metadata.parity
    beside = path.with_suffix(".parity.json")
    if not report:
        return f"{path}: carries no parity report; write it with: swath export"
    if beside.exists():
        try:
            other = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return f"{beside}: cannot be read; copy it again together with the model"
        if not isinstance(other, dict) or current_parity_report(other) != report:
            return f"{beside}: of another model than {path.name}; copy the two together"
    return _failure(path, metadata.precision, report)


def _failure(path: Path, precision: str, report: Mapping[str, Any]) -> str:
    try:
        if report["precision"] != precision or precision not in DELTA_AP_POINTS:
            return f"{path}: its parity report is of {report['precision']}, the file of {precision}; export it again"
        chance_points = report.get("delta_ap_chance_points", 0.0)  # missing in early reports
        faults = ap_faults(precision, report["delta_ap_points"], report["small_ap_fall_points"], chance_points)
        if report["malformed_outputs"]:
            faults.append(f"{report['malformed_outputs']} malformed outputs")
        if precision in TOLERANCES and report["agreement"] < TOLERANCES[precision].share:
            faults.append(f"{report['agreement']:.1%} of the boxes agree with PyTorch's")
        if precision not in TOLERANCES and report["unmatched_boxes"]:
            faults.append(f"{report['unmatched_boxes']} boxes differ from PyTorch's")
        if not report["images"] > 0:
            faults.append("compared on no image")
    except (KeyError, TypeError) as error:
        return f"{path}: its parity report is not one of swath export ({error}); export it again"
    return f"{path}: its parity report did not pass: {'; '.join(faults)}" if faults else ""
