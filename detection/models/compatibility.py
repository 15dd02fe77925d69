"""Names of earlier versions in a recipe's `model` and `postprocess` sections, and today's. Imports no torch.

Checkpoints and recipes are both read through this; it is kept for one minor version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ASSIGNMENTS = {"centre": "center_sampling"}
_BACKBONE_PREFIXES = {"slim:": "pruned:"}
_ONLY_LOSSES = {"quality": "qfl", "box_loss": "giou"}
"""Keys that are gone, and the one value of each that is what every detector learns by now."""

_POSTPROCESS_KEYS = {"score_floor": "pre_nms_score_threshold", "candidates": "pre_nms_top_k"}


def current_model_section(section: Mapping[str, Any], *, strict: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A `model` section in today's words.

    Args:
        section: as it was written; today's words pass as they are.
        strict: refuse losses that are gone. A trained detector is the same whatever it was trained by, so that a
            checkpoint is read without.

    Returns:
        The section, and one line for each name that changed.

    Raises:
        ValueError: with `strict`, a loss that is gone; the message begins with the key's path.

    """
    current, notes = dict(section), []
    for key, kept in _ONLY_LOSSES.items():
        value = current.pop(key, kept)
        if value != kept and strict:
            raise ValueError(f"model.{key}: {value} is gone; leave the key out: {kept} is always used")
        if key in section:
            notes.append(f"model.{key} is gone: {kept} is always used")
    assign = current.get("assign")
    if assign in _ASSIGNMENTS:
        current["assign"] = _ASSIGNMENTS[assign]
        notes.append(f"model.assign: {assign} is now {_ASSIGNMENTS[assign]}")
    backbone = current.get("backbone")
    for old, new in _BACKBONE_PREFIXES.items():
        if isinstance(backbone, str) and backbone.startswith(old):
            current["backbone"] = new + backbone.removeprefix(old)
            notes.append(f"model.backbone: {old} is now {new}")
    return current, notes


def current_postprocess_section(section: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A `postprocess` section in today's words, and one line for each name that changed."""
    current = {_POSTPROCESS_KEYS.get(key, key): value for key, value in section.items()}
    notes = [f"postprocess.{o} is now postprocess.{n}" for o, n in _POSTPROCESS_KEYS.items() if o in section]
    return current, notes
