"""Recipe keys and values of version 0.1, and today's. They are read for one minor version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detection.models.compatibility import current_model_section, current_postprocess_section
from detection.models.presets import preset_named, preset_names, used_options
from detection.recipe.schema import Model

_KEYS = {
    "train": {
        "accumulate": "gradient_accumulation",
        "average": "ema_decay",
        "backbone_rate": "backbone_lr_multiplier",
        "thaw": "freeze_backbone",
    },
    "pretrain": {"pictures": "images"},
}
RENAMED_FINDINGS = {"picture-missing": "image-missing", "picture-unreadable": "image-unreadable"}
"""Kinds of findings that `data.allow` may name: old -> today's."""

_ONLY_DISTILLATION = "foreground"
_TRAINING_STATE = {"average": "ema"}


def current_recipe(content: Mapping[str, Any], *, strict: bool = True) -> tuple[dict[str, Any], list[str]]:
    """A recipe with the names of this version.

    Args:
        content: section by section, as a user or version 0.1 wrote it.
        strict: refuse values that are no longer supported; otherwise they are dropped.

    Returns:
        The recipe, and one line for each name that changed.

    Raises:
        ValueError: with `strict`, a value that is no longer supported; the message begins with the key's path.

    """
    current, notes = dict(content), list[str]()
    if isinstance(current.get("model"), dict):
        current["model"], lines = _model_section(current["model"], strict=strict)
        notes += lines
    if isinstance(current.get("postprocess"), dict):
        current["postprocess"], lines = current_postprocess_section(current["postprocess"])
        notes += lines
    for name, keys in _KEYS.items():
        if isinstance(current.get(name), dict):
            current[name], lines = _renamed(name, current[name], keys)
            notes += lines
    if isinstance(current.get("data"), dict):
        current["data"], lines = _data_section(current["data"])
        notes += lines
    if isinstance(current.get("distill"), dict):
        current["distill"], lines = _distill_section(current["distill"], strict=strict)
        notes += lines
    return current, notes


def current_written_recipe(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that a run or checkpoint carries, in today's words, without options that its preset does not have.

    Version 0.1 wrote the defaults of every preset's options into each run.
    """
    current, _ = current_recipe(content, strict=False)
    section = current.get("model")
    if isinstance(section, dict) and section.get("preset") in preset_names():
        common = {key: value for key, value in section.items() if key in Model.model_fields}
        current["model"] = common | used_options(preset_named(section["preset"]), section)
    return current


def current_training_state(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `last.ckpt` with the names of this version."""
    return {_TRAINING_STATE.get(name, name): value for name, value in saved.items()}


def _model_section(given: Mapping[str, Any], *, strict: bool) -> tuple[dict[str, Any], list[str]]:
    current, notes = current_model_section(given, strict=strict)
    preset = current.get("preset")
    if given.get("assign") == "centre" and preset in preset_names():
        if "assign" not in preset_named(preset).options.model_fields:
            # version 0.1 wrote this default into the runs of all presets
            del current["assign"]
            notes = [
                *(note for note in notes if not note.startswith("model.assign")),
                f"model.assign: not for {preset}",
            ]
    return current, notes


def _renamed(section: str, given: Mapping[str, Any], keys: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    notes = [f"{section}.{old} is now {section}.{new}" for old, new in keys.items() if old in given]
    return {keys.get(key, key): value for key, value in given.items()}, notes


def _data_section(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    allow = given.get("allow")
    if not isinstance(allow, list | tuple):
        return dict(given), []
    known = [kind for kind in allow if isinstance(kind, str) and kind in RENAMED_FINDINGS]
    notes = [f"data.allow: {kind} is now {RENAMED_FINDINGS[kind]}" for kind in known]
    return {**given, "allow": [RENAMED_FINDINGS[kind] if kind in known else kind for kind in allow]}, notes


def _distill_section(given: Mapping[str, Any], *, strict: bool) -> tuple[dict[str, Any], list[str]]:
    if "kind" not in given:
        return dict(given), []
    current = dict(given)
    kind = current.pop("kind")
    if kind != _ONLY_DISTILLATION and strict:
        raise ValueError(f"distill.kind: {kind} is gone; leave the key out: features are matched in and around boxes")
    return current, [f"distill.kind is gone: {_ONLY_DISTILLATION} is always used"]
