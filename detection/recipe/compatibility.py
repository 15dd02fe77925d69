"""Recipe keys and values of earlier versions, and today's. They are read for one minor version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detection.models.compatibility import current_model_section, current_postprocess_section
from detection.models.presets import preset_named, preset_names, used_options
from detection.recipe.schema import Model

RENAMED_FINDINGS = {"picture-missing": "image-missing", "picture-unreadable": "image-unreadable"}
"""Kinds of findings that `data.allow` may name: old -> today's."""


def current_recipe(content: Mapping[str, Any], *, strict: bool = True) -> tuple[dict[str, Any], list[str]]:
    """A recipe in today's words.

    Args:
        content: section by section, as a user or an earlier version wrote it.
        strict: refuse what is gone; without, it is dropped.

    Returns:
        The recipe, and one line for each name that changed.

    Raises:
        ValueError: with `strict`, a value that is gone; the message begins with the key's path.

    """
    current, notes = dict(content), list[str]()
    if isinstance(current.get("data"), dict):
        current["data"], lines = _current_data_section(current["data"])
        notes += lines
    if isinstance(current.get("model"), dict):
        current["model"], lines = current_model_section(current["model"], strict=strict)
        notes += lines
    if isinstance(current.get("postprocess"), dict):
        current["postprocess"], lines = current_postprocess_section(current["postprocess"])
        notes += lines
    return current, notes


def current_written_recipe(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that a run or checkpoint carries, in today's words, without options that its preset does not have.

    Earlier versions wrote the defaults of every preset's options into each run.
    """
    current, _ = current_recipe(content, strict=False)
    section = current.get("model")
    if isinstance(section, dict) and section.get("preset") in preset_names():
        common = {key: value for key, value in section.items() if key in Model.model_fields}
        current["model"] = common | used_options(preset_named(section["preset"]), section)
    return current


def _current_data_section(section: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    allowed = section.get("allow")
    if not isinstance(allowed, list | tuple):
        return dict(section), []
    old = [kind for kind in allowed if isinstance(kind, str) and kind in RENAMED_FINDINGS]
    kinds = [RENAMED_FINDINGS.get(kind, kind) if isinstance(kind, str) else kind for kind in allowed]
    notes = [f"data.allow: {kind} is now {RENAMED_FINDINGS[kind]}" for kind in old]
    return {**section, "allow": kinds}, notes
