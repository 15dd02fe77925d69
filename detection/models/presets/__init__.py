"""Presets: the detectors that a recipe can name. One file a family, one line in `KINDS`. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from detection.models.presets import fasterrcnn, fcos, fcos_lite, retinanet, ssdlite
from detection.models.presets.description import Preset, PresetOptions
from detection.runtime.errors import SwathError

KINDS: tuple[Preset, ...] = (*fcos_lite.KINDS, *fcos.KINDS, *retinanet.KINDS, *ssdlite.KINDS, *fasterrcnn.KINDS)
"""Every preset, in the order in which tables list them."""


def preset_names() -> tuple[str, ...]:
    """The names that `model.preset` may have."""
    return tuple(preset.name for preset in KINDS)


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        SwathError: there is none; the message names the nearest one, or all.

    """
    for preset in KINDS:
        if preset.name == name:
            return preset
    near = difflib.get_close_matches(name, preset_names(), 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(preset_names())}"
    raise SwathError(f"model.preset: no preset {name!r}; {hint}")


def preset_options(preset: Preset, given: Mapping[str, Any]) -> PresetOptions:
    """The options of a preset: checked, and completed by its defaults.

    Args:
        preset: a preset of `KINDS`.
        given: options by name; None stands for the preset's own default, also where it has no such option.

    Raises:
        ValidationError: an option that the preset does not have (the message says which presets have it), or a
            value of the wrong type or range; an error's `loc` is the option's name.

    """
    wanted = {name: value for name, value in given.items() if value is not None or not _presets_with(name)}
    faults = [_fault(preset, name) for name in wanted if name not in preset.options.model_fields]
    if faults:
        raise ValidationError.from_exception_data(preset.name, faults)
    return preset.options.model_validate({**preset.defaults, **wanted})


def used_options(preset: Preset, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that the preset has: what counts of a file that lists all."""
    return {name: value for name, value in given.items() if name in preset.options.model_fields}


def _presets_with(option: str) -> list[str]:
    return [preset.name for preset in KINDS if option in preset.options.model_fields]


def _fault(preset: Preset, name: str) -> InitErrorDetails:
    others = _presets_with(name)
    if others:
        message = f"{preset.name} does not use it; {', '.join(others)} {'do' if len(others) > 1 else 'does'}"
    else:
        valid = ("preset", "weights", "trust_hub", *preset.options.model_fields)
        near = difflib.get_close_matches(name, valid, 1, 0.6)
        message = "unknown key" + (f"; did you mean model.{near[0]}?" if near else "")
    # the value itself is not repeated: the key is what is wrong
    return InitErrorDetails(type="value_error", loc=(name,), input={}, ctx={"error": ValueError(message)})


__all__ = ("KINDS", "Preset", "PresetOptions", "preset_named", "preset_names", "preset_options", "used_options")
