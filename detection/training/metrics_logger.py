"""What a run writes down while it goes: `metrics.csv`, TensorBoard, and other loggers where they are asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.training.run_loggers import RunLogger, open_loggers

METRICS = "metrics.csv"


class Moment(Protocol):
    """Where a training stands."""

    step: int
    elapsed_s: float


class Record:
    """`metrics.csv` and the run's loggers. One row a step; validation fills its columns in a row of its own.

    Args:
        out: the run folder.
        first_step: the step that a resumed run goes on from: what was written of later ones is dropped; 0: anew.
        steps_per_epoch: to tell the epoch from the step.
        loggers: of `csv`, `tensorboard`, `mlflow`, `wandb`.
        recipe: the resolved recipe, which MLflow and W&B keep beside the numbers.

    Raises:
        SwathError: a package that a logger needs is missing, or the logger cannot start.

    """

    _COLUMNS = ("step", "epoch", "minutes", "learning_rate", "loss", "AP", "AP50", "AP75", "losses")

    def __init__(
        self,
        out: Path,
        *,
        first_step: int,
        steps_per_epoch: float,
        loggers: Sequence[str] = ("csv", "tensorboard"),
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._loggers: list[RunLogger] = open_loggers(loggers, out, first_step=first_step, recipe=recipe or {})
        self._rows: csv.DictWriter[str] | None = None
        if "csv" in loggers:
            path = out / METRICS
            kept: list[dict[str, str]] = []
            if first_step and path.is_file():  # rows after the checkpoint will be written again
                with path.open(newline="", encoding="utf-8") as file:
                    kept = [row for row in csv.DictReader(file) if row["step"] and int(row["step"]) <= first_step]
            self._file = path.open("w", newline="", encoding="utf-8")
            self._rows = csv.DictWriter(self._file, self._COLUMNS)
            self._rows.writeheader()
            self._rows.writerows(kept)

    def _row(self, at: Moment, **values: Any) -> None:
        if self._rows is None:
            return
        epoch = f"{at.step / self._steps_per_epoch:.3f}"
        self._rows.writerow({"step": at.step, "epoch": epoch, "minutes": f"{at.elapsed_s / 60:.3f}", **values})
        self._file.flush()

    def step(self, at: Moment, losses: Mapping[str, float], rate: float) -> None:
        """Write down a step: its losses by name, and the learning rate it was taken with."""
        total = sum(losses.values())
        parts = " ".join(f"{name}={value:.5f}" for name, value in losses.items())
        self._row(at, learning_rate=f"{rate:.3e}", loss=f"{total:.5f}", losses=parts)
        values = {"train/loss": total, "train/learning_rate": rate}
        values |= {f"train/{name}": value for name, value in losses.items()}
        for logger in self._loggers:
            logger.numbers(values, at.step)

    def validation(
        self,
        at: Moment,
        metrics: Mapping[str, float],
        *,
        per_class: Mapping[str, float] | None = None,
        image_rgb: NDArray[np.uint8] | None = None,
    ) -> None:
        """Write down a validation.

        Args:
            at: when it was.
            metrics: COCO's 12 numbers by name.
            per_class: AP by class; -1 where there is nothing to find, which is left out.
            image_rgb: uint8 (H, W, 3), some of the images with what was found in them.

        """
        self._row(at, **{name: f"{metrics[name]:.5f}" for name in ("AP", "AP50", "AP75")})
        values = {f"val/{name}": value for name, value in metrics.items()}
        values |= {f"val_AP/{name}": value for name, value in (per_class or {}).items() if value >= 0}
        for logger in self._loggers:
            logger.numbers(values, at.step)
            if image_rgb is not None:
                logger.image("val/images", image_rgb, at.step)

    def close(self, *, whole: bool = True) -> None:
        """End it; `whole` says whether the run came to its end."""
        if self._rows is not None:
            self._file.close()
        for logger in self._loggers:
            logger.close(whole=whole)
