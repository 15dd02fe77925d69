"""Logs a run's metrics: to `metrics.csv`, to TensorBoard, and to other loggers that the recipe names."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.training.run_loggers import RunLogger, open_loggers

METRICS = "metrics.csv"


class MetricsLogger:
    """Logs to `metrics.csv` and to the run's loggers: one row per step, and one of its own per validation.

    Args:
        out: the run folder.
        first_step: the step that a resumed run continues from: rows of later steps are dropped; 0: a new run.
        steps_per_epoch: steps in one pass over the training images.
        loggers: of `csv`, `tensorboard`, `mlflow`, `wandb`.
        recipe: the resolved recipe, logged as hyperparameters by MLflow and W&B.

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

    def _row(self, step: int, elapsed_s: float, **values: Any) -> None:
        if self._rows is None:
            return
        epoch = f"{step / self._steps_per_epoch:.3f}"
        self._rows.writerow({"step": step, "epoch": epoch, "minutes": f"{elapsed_s / 60:.3f}", **values})
        self._file.flush()

    def log_step(self, step: int, elapsed_s: float, losses: Mapping[str, float], learning_rate: float) -> None:
        """Log an optimizer step.

        Args:
            step: its number, counted from 1.
            elapsed_s: seconds of training so far.
            losses: each loss by name.
            learning_rate: with which it was taken.

        """
        total = sum(losses.values())
        parts = " ".join(f"{name}={value:.5f}" for name, value in losses.items())
        self._row(step, elapsed_s, learning_rate=f"{learning_rate:.3e}", loss=f"{total:.5f}", losses=parts)
        values = {"train/loss": total, "train/learning_rate": learning_rate}
        values |= {f"train/{name}": value for name, value in losses.items()}
        for logger in self._loggers:
            logger.log_metrics(values, step)

    def log_validation(
        self,
        step: int,
        elapsed_s: float,
        metrics: Mapping[str, float],
        *,
        per_class: Mapping[str, float] | None = None,
        image_rgb: NDArray[np.uint8] | None = None,
    ) -> None:
        """Log a validation.

        Args:
            step: after which it was made.
            elapsed_s: seconds of training so far.
            metrics: COCO's 12 numbers by name; those of -1, undefined, are left out.
            per_class: AP by class; classes with -1, without any object, are left out.
            image_rgb: uint8 (H, W, 3), some of the images with ground truth and detections.

        """
        defined = {name: value for name, value in metrics.items() if value >= 0}
        self._row(step, elapsed_s, **{n: f"{defined[n]:.5f}" for n in ("AP", "AP50", "AP75") if n in defined})
        values = {f"val/{name}": value for name, value in defined.items()}
        values |= {f"val_AP/{name}": value for name, value in (per_class or {}).items() if value >= 0}
        for logger in self._loggers:
            logger.log_metrics(values, step)
            if image_rgb is not None:
                logger.log_image("val/images", image_rgb, step)

    def close(self, *, completed: bool = True) -> None:
        """Close the file and the loggers; `completed` says whether the run reached its end."""
        if self._rows is not None:
            self._file.close()
        for logger in self._loggers:
            logger.close(completed=completed)
