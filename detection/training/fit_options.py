"""How long a training lasts, and when it validates and saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FitOptions:
    """How long a training lasts, how its learning rate moves, and when it validates and saves.

    Attributes:
        epochs: passes over the training images.
        max_minutes: wall-clock budget, which ends the run if the epochs have not; None: no budget.
        warmup: part of the run in which the learning rate rises, 0 to below 1.
        freeze_backbone: part of the run at whose start the backbone is frozen, 0 to below 1.
        mixes_end: part of the run after which images are no longer mixed with others, 0 to 1.
        ema_decay: decay of the weights' moving average, which is then validated and kept; 0: no average.
        validate_every: epochs between validations.
        patience: validations without a better AP after which the run ends; None: never.
        save_every_minutes: longest time between two checkpoints.
        keep_last: checkpoints that are kept.
        loggers: of `csv`, `tensorboard`, `mlflow`, `wandb`.

    """

    epochs: int
    max_minutes: float | None = None
    warmup: float = 0.05
    freeze_backbone: float = 0.0
    mixes_end: float = 0.9
    ema_decay: float = 0.0
    validate_every: int = 5
    patience: int | None = None
    save_every_minutes: float = 5.0
    keep_last: int = 1
    loggers: Sequence[str] = ("csv", "tensorboard")
