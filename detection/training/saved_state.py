"""The content of a `last.ckpt`, checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from detection.models.checkpoint import CheckpointError, load_training_state
from detection.recipe.compatibility import current_training_state
from detection.runtime.settings import explain
from detection.training.training_run import TrainingState


class _Saved(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    precision: dict[str, Any]
    ema: dict[str, Any] | None
    rng: Tensor
    state: TrainingState
    class_names: list[str]
    preset: str
    weights_licence: str


def resumable(path: Path) -> Mapping[str, Any]:
    """What a `last.ckpt` holds, with the names of this version.

    Raises:
        CheckpointError: missing or damaged.

    """
    saved = current_training_state(load_training_state(path))
    try:
        _Saved.model_validate(saved)
    except ValidationError as error:
        why = explain(error.errors()[0], _Saved)
        raise CheckpointError(f"{path}: damaged ({why}); start without --resume") from None
    return saved
