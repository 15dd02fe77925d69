"""The parity report of a model file: whether it passed, and whether it is the file's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detection.runtime.compatibility import current_parity_report
from detection.runtime.metadata import ModelMetadata
from detection.runtime.parity.agreement import TOLERANCES
from detection.runtime.parity.budgets import DELTA_AP_POINTS, ap_faults
from detection.runtime.settings import explain

_Points = Annotated[float, Field(allow_inf_nan=False)]


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
        except (OSError, ValueError, RecursionError) as error:
            return f"{beside}: cannot be read ({error}); copy it again together with the model"
        if not isinstance(other, dict) or current_parity_report(other) != report:
            return f"{beside}: of another model than {path.name}; copy the two together"
    return _failure(path, metadata.precision, report)


class _Report(BaseModel):
    """What is looked at in a parity report."""

    model_config = ConfigDict(strict=True)

    precision: str
    images: Annotated[int, Field(ge=0)]
    malformed_outputs: Annotated[int, Field(ge=0)]
    delta_ap_points: _Points | None
    small_ap_fall_points: _Points | None
    delta_ap_chance_points: _Points | None = 0.0  # missing in early reports
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    unmatched_boxes: Annotated[int, Field(ge=0)] | None = None


def _failure(path: Path, precision: str, given: Mapping[str, Any]) -> str:
    try:
        report = _Report.model_validate(given)
    except ValidationError as error:
        why = explain(error.errors()[0], _Report)
        return f"{path}: its parity report is not one of swath export ({why}); export it again"
    if report.precision != precision or precision not in DELTA_AP_POINTS:
        return f"{path}: its parity report is of {report.precision}, the file of {precision}; export it again"
    faults = ap_faults(precision, report.delta_ap_points, report.small_ap_fall_points, report.delta_ap_chance_points)
    if report.malformed_outputs:
        faults.append(f"{report.malformed_outputs} malformed outputs")
    compared = report.agreement if precision in TOLERANCES else report.unmatched_boxes
    if compared is None:
        faults.append("it does not say how many boxes agree with PyTorch's")
    elif precision in TOLERANCES and compared < TOLERANCES[precision].share:
        faults.append(f"{compared:.1%} of the boxes agree with PyTorch's")
    elif precision not in TOLERANCES and compared:
        faults.append(f"{compared} boxes differ from PyTorch's")
    if not report.images:
        faults.append("compared on no image")
    return f"{path}: its parity report did not pass: {'; '.join(faults)}" if faults else ""
