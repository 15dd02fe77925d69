"""Loggers of a run besides `metrics.csv`: TensorBoard, MLflow, Weights & Biases.

All three are used through Lightning's loggers, which share one interface (`log_metrics`, `log_hyperparams`,
`finalize`). MLflow and W&B are optional; their packages are imported only where a recipe names them.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from numpy.typing import NDArray

from detection.runtime.errors import SwathError

PROJECT = "swath"
"""The MLflow experiment and W&B project of runs, where the environment names no other."""

_NEEDED = {"mlflow": ("pytorch_lightning", "mlflow", "sqlalchemy"), "wandb": ("pytorch_lightning", "wandb")}
_IDS = "loggers.json"


class RunLogger(Protocol):
    """Receives the metrics and images of a run."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name, such as "train/loss"."""

    def log_image(self, name: str, image_rgb: NDArray[np.uint8], step: int) -> None:
        """Log an image uint8 (H, W, 3) RGB."""

    def close(self, *, completed: bool) -> None:
        """Write what is pending; `completed` says whether the run reached its end."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that the packages of all loggers are installed.

    Raises:
        SwathError: one is missing; the message says what to install.

    """
    for name in names:
        missing = [package for package in _NEEDED.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            raise SwathError(f'train.loggers: {name} needs more packages: pip install "swath[{name}]"')


def open_loggers(
    names: Sequence[str], out: Path, *, first_step: int = 0, recipe: Mapping[str, Any] | None = None
) -> list[RunLogger]:
    """The loggers of a run but `csv`. A resumed run continues the entries that it began.

    Each begins its entry with the first number it gets: TensorBoard's and W&B's threads must not be there
    when the loader's workers are forked.

    Args:
        names: of `csv`, `tensorboard`, `mlflow`, `wandb`.
        out: the run folder.
        first_step: the step that a resumed run continues from; 0 for a new one.
        recipe: its sections, logged as hyperparameters by MLflow and W&B.

    Raises:
        SwathError: a package is missing.

    """
    check_loggers(names)
    ids: dict[str, str] = {}
    if first_step and (out / _IDS).is_file():
        ids = json.loads((out / _IDS).read_text(encoding="utf-8"))
    opened: list[RunLogger] = []
    for name in names:
        if name == "tensorboard":
            opened.append(_TensorBoard(out, purge_step=first_step + 1 if first_step else None))
        elif name == "mlflow":
            opened.append(_Remote(name, lambda: _mlflow(out, ids.get("mlflow")), out, recipe or {}))
        elif name == "wandb":
            opened.append(_Remote(name, lambda: _wandb(out, ids.get("wandb")), out, recipe or {}))
    return opened


class _TensorBoard:
    def __init__(self, out: Path, purge_step: int | None) -> None:
        # no name and no version: the events lie in the run folder itself
        self._logger = TensorBoardLogger(str(out), name="", version="", purge_step=purge_step)

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._logger.log_metrics(values, step)

    def log_image(self, name: str, image_rgb: NDArray[np.uint8], step: int) -> None:
        self._logger.experiment.add_image(name, image_rgb, step, dataformats="HWC")

    def close(self, *, completed: bool) -> None:
        self._logger.finalize("success" if completed else "failed")


class _Remote:
    """MLflow or W&B by Lightning's logger of it, made with the first number."""

    def __init__(self, name: str, make: Callable[[], Any], out: Path, recipe: Mapping[str, Any]) -> None:
        self._name, self._make, self._out, self._recipe = name, make, out, recipe
        self._made: Any = None

    @property
    def _logger(self) -> Any:
        if self._made is None:
            logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it logs every experiment that it creates
            try:
                self._made = self._make()
                entry = str(self._made.experiment.id if self._name == "wandb" else self._made.run_id)
                self._made.log_hyperparams(dict(self._recipe))
            except Exception as error:  # networks, accounts, databases: each package raises types of its own
                first_line = str(error).strip().partition("\n")[0]
                raise SwathError(f"train.loggers: {self._name} cannot start ({first_line})") from error
            path = self._out / _IDS
            ids = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            path.write_text(json.dumps(ids | {self._name: entry}) + "\n", encoding="utf-8")
        return self._made

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        # MLflow takes no other characters in a name; class names may have them
        self._logger.log_metrics({re.sub(r"[^\w/. -]", "_", name): value for name, value in values.items()}, step)

    def log_image(self, name: str, image_rgb: NDArray[np.uint8], step: int) -> None:
        if self._name == "wandb":
            self._logger.log_image(name, [image_rgb], step)
        else:
            file = f"{name}_step{step:06d}.png"
            self._logger.experiment.log_image(self._logger.run_id, image_rgb, artifact_file=file)

    def close(self, *, completed: bool) -> None:
        if self._made is None:
            return
        self._made.finalize("success" if completed else "failed")
        if self._name == "wandb":
            self._made.experiment.finish(exit_code=0 if completed else 1)


def _mlflow(out: Path, entry: str | None) -> Any:
    """A local database beside the run folder, where `MLFLOW_TRACKING_URI` names no server.

    MLflow refuses its old store of plain files since 3.17.
    """
    from pytorch_lightning.loggers import MLFlowLogger

    folder = out.resolve().parent
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=out.name,
        tracking_uri=uri or f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=None if uri else (folder / "mlartifacts").as_uri(),
        run_id=entry,
    )


def _wandb(out: Path, entry: str | None) -> Any:
    """Into the run folder alone, to be sent by `wandb sync`, where the environment has neither key nor mode.

    A training must not stop at W&B's question for an account.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # it would write over the table
    from pytorch_lightning.loggers import WandbLogger

    connected = any(os.environ.get(key) for key in ("WANDB_API_KEY", "WANDB_MODE"))
    return WandbLogger(
        name=out.name,
        save_dir=out,
        id=entry,
        offline=not connected,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        resume="allow",
    )
