"""Names of the version before, in files that outlive it: read for one minor version more.

Each kind of file has its table here, old name -> new name, and `renamed` applies one. What was read by an old name
is logged once a file, in one line that gives the new name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

_log = logging.getLogger(__name__)

MODEL_METADATA = {"score_floor": "pre_nms_score_threshold"}
"""Keys of a model file's metadata, schema 1."""

PARITY_REPORT = {
    "pictures": "images",
    "undecided_boxes": "borderline_boxes",
    "wrong_form": "malformed_outputs",
    "agreement_least": "agreement_required",
    "agreement_means": "agreement_criterion",
    "made_from": "fp32_parity",
}
"""Keys of a parity report, schema 1, in the model file and in `.parity.json`."""

RECORDING = {"looks": "slices"}
"""Keys of a black box's `recording.json`, schema 1."""

RECORDED_FRAME = {"picture": "image"}
"""Keys of a line of its `frames.jsonl`, schema 1. The value stays: the images lie in `pictures/` as it says."""

MACHINE_MODEL = {"unproved": "unverified"}
"""Keys of the section `model` of a machine's YAML."""

_INT8_REPORT = {"why": "criterion"}
_CALIBRATION = {"pictures": "images", "of": "images_available"}
_TRIAL = {"in_float": "layers_in_float", "holds": "passed", "said": "result"}


def renamed(content: Mapping[str, Any], names: Mapping[str, str], where: str | None = None) -> dict[str, Any]:
    """The same mapping with old names replaced; a new name that is there already wins.

    Args:
        content: as it was read.
        names: old name -> new name, one of the tables above.
        where: the file, for the line that is logged; None logs nothing (the file's other lines have been named).

    """
    old = [name for name in names if name in content]
    if old and where is not None:
        _log_once(where, ", ".join(f"{name} is now {names[name]}" for name in old))
    current = {name: value for name, value in content.items() if name not in names}
    return {**{names[name]: content[name] for name in old}, **current}


@cache
def _log_once(where: str, changes: str) -> None:
    _log.warning("%s: written by an older Swath; %s", where, changes)


def current_model_metadata(content: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """A model file's metadata, of this schema or the one before, with today's names.

    Args:
        content: the JSON under the key `swath`.
        where: the file, for the line that is logged.

    """
    current = renamed(content, MODEL_METADATA, where)
    if isinstance(current.get("parity"), dict):
        current["parity"] = current_parity_report(current["parity"])
    return current


def current_parity_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A parity report of this version or the one before, with today's names throughout."""
    current = renamed(report, PARITY_REPORT)
    if isinstance(current.get("fp32_parity"), dict):
        current["fp32_parity"] = renamed(current["fp32_parity"], PARITY_REPORT)
    int8 = current.get("int8")
    if isinstance(int8, dict):
        int8 = renamed(int8, _INT8_REPORT)
        if isinstance(int8.get("calibration"), dict):
            int8["calibration"] = renamed(int8["calibration"], _CALIBRATION)
        if isinstance(int8.get("trials"), list):
            int8["trials"] = [renamed(trial, _TRIAL) for trial in int8["trials"]]
        current["int8"] = int8
    return current
