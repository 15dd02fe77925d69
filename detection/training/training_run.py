"""A training in its run folder: state, steps, validation, checkpoints, logs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from data.loading.loader import Batch
from detection.models.checkpoint import BEST, BROKEN_BATCH, LAST, CheckpointError, save_training_state
from detection.runtime.errors import reason
from detection.training.batches import BatchSource
from detection.training.fit_options import FitOptions
from detection.training.metrics_logger import MetricsLogger
from detection.training.optimizer import moving_average, set_learning_rate
from detection.training.provenance import Provenance
from detection.training.throughput import ThroughputMeter
from detection.training.trainer import Trainer
from detection.training.validation import Validator
from detection.training.visualisation import write_batch
from detection.training.watcher import NotFinite, Step, TrainingError, Watcher

_STOP_FOLLOWS_S = 2.0
"""So long after the death of a worker the stop that killed it may come."""


@dataclass
class TrainingState:
    """What changes during a training, and what a resumed run starts from.

    Attributes:
        step: optimizer steps taken.
        elapsed_s: seconds of training, over all resumed parts.
        best_ap, best_step: the best AP so far, and the step at which `best.safetensors` was written; -1: none yet.
        since_best: validations since then.
        scored_step: step of the last validation; -1: none yet.
        saved_s: seconds of training at which `last.ckpt` was written.

    """

    step: int = 0
    elapsed_s: float = 0.0
    best_ap: float = -1.0
    best_step: int = -1
    since_best: int = 0
    scored_step: int = -1
    saved_s: float = 0.0


class TrainingRun:
    """A training in its run folder: its state, its checkpoints and its logs.

    Attributes:
        out: the run folder.
        state: what changes from step to step.
        progress: of the run, by steps or by the clock, whichever is further; 0 to 1.

    Args:
        trainer: takes the steps.
        source: of the batches.
        validator: scores the network; None without validation images.
        out: the run folder, which is made.
        options: how long, and when to validate and save.
        provenance: written into the folder and the checkpoints.
        watcher: receives every step and validation.
        saved: the content of a `last.ckpt` to resume, already loaded into `trainer`; None: a new run.
        stop: when set, the run is saved after the current step and ended.
        started_s: when the wall-clock budget began to run, by `time.monotonic`; None: now.

    """

    def __init__(
        self,
        trainer: Trainer,
        source: BatchSource,
        validator: Validator | None,
        out: Path,
        *,
        options: FitOptions,
        provenance: Provenance,
        watcher: Watcher,
        saved: Mapping[str, Any] | None = None,
        stop: threading.Event | None = None,
        started_s: float | None = None,
    ) -> None:
        self.trainer, self.out = trainer, out
        self._source, self._validator = source, validator
        self._options, self._provenance, self._watcher = options, provenance, watcher
        self._stop = stop or threading.Event()
        self._started_s = time.monotonic() if started_s is None else started_s
        self.state = TrainingState(**saved["state"]) if saved else TrainingState()
        self._elapsed_before_s = self.state.elapsed_s
        self._ema = moving_average(trainer.network, options.ema_decay) if options.ema_decay else None
        self._kept = self._ema.module if self._ema else trainer.network  # what is validated and saved as the best
        if saved is not None:
            try:
                if self._ema and saved["ema"]:
                    self._ema.load_state_dict(saved["ema"])
                torch.set_rng_state(saved["rng"])
            except (RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(f"{out / LAST}: damaged ({reason(error)}); start without --resume") from None
        self._is_first = trainer.fabric.is_global_zero
        if self._is_first:
            provenance.write(out)
        self._steps_per_epoch = len(source.data.train) / trainer.global_batch_size
        self._steps = math.ceil(options.epochs * self._steps_per_epoch)
        self._validate_every = max(1, round(options.validate_every * self._steps_per_epoch))
        self._logger = MetricsLogger(
            out,
            first_step=self.state.step,
            steps_per_epoch=self._steps_per_epoch,
            loggers=options.loggers if self._is_first else (),
            recipe=provenance.recipe,
        )
        self.progress = self._progress()

    def batches(self) -> Iterator[Batch]:
        """The images of this process for every step that is left.

        A stop that kills a worker of the loader too, as one to the whole process group may, is their end.
        """
        try:
            yield from self._source.batches(
                self.trainer.fabric,
                self.trainer.images_per_step,
                self._steps,
                first_step=self.state.step,
                # called when the loader begins a batch; by the clock, the run may be further when its step is taken
                mixing=lambda step: max(step / self._steps, self.progress) < self._options.mixes_end,
            )
        except RuntimeError as error:
            if "DataLoader worker" not in str(error) or not self._stop.wait(_STOP_FOLLOWS_S):
                raise

    def is_over(self) -> bool:
        """Whether all processes together are done, or one of them was asked to stop."""
        self.progress, stopping = _agreed(self.trainer.fabric, self.progress, self._stop.is_set())
        return self.progress >= 1 or stopping

    def step(self, batch: Batch, meter: ThroughputMeter) -> None:
        """Take an optimizer step, log it and report it.

        Raises:
            TrainingError: a loss or gradient is not finite; the batch is kept for inspection.

        """
        state, options = self.state, self._options
        learning_rate = set_learning_rate(self.trainer.optimizer, self.progress, options.warmup)
        try:
            losses = self.trainer.step(batch, freeze_backbone=self.progress < options.freeze_backbone)
        except NotFinite as error:
            raise self._broken(batch, error) from None
        if self._ema:
            self._ema.update_parameters(self.trainer.network)
        state.step += 1
        self._read_clock()
        self._logger.log_step(state.step, state.elapsed_s, losses, learning_rate)
        self._watcher.step(
            Step(
                number=state.step,
                steps=self._steps,
                progress=self.progress,
                losses=losses,
                learning_rate=learning_rate,
                epoch=state.step / self._steps_per_epoch,
                epochs=options.epochs,
                throughput=meter.stepped(self.trainer.global_batch_size),
            )
        )

    @property
    def _at_validation(self) -> bool:
        return self.state.step % self._validate_every == 0 and self.progress < 1

    @property
    def validation_due(self) -> bool:
        """Whether to validate after this step; the one at the end belongs to `finish`."""
        return self._at_validation and self._validator is not None

    @property
    def checkpoint_due(self) -> bool:
        """Whether to write `last.ckpt` after this step."""
        since_s = self.state.elapsed_s - self.state.saved_s
        return self._at_validation or since_s >= 60 * self._options.save_every_minutes

    def validate(self) -> None:
        """Score the network in the first process, and keep its weights if they are the best so far.

        The other processes wait for it where they next exchange something.
        """
        assert self._validator is not None
        state = self.state
        state.scored_step = state.step
        if not self._is_first:
            return
        result = self._validator(
            self._kept,
            device=self.trainer.fabric.device,
            progress=lambda done, total: self._watcher.progress("validating", done, total),
        )
        ap = result.metrics["AP"]
        better = ap > state.best_ap
        # Undefined (-1, nothing to find) is no number: the newest weights are kept, and patience is not used up.
        state.since_best = 0 if better or ap < 0 else state.since_best + 1
        if better or ap < 0:
            state.best_ap = max(ap, state.best_ap)
            self._save_best(dict(result.metrics))
        self._logger.log_validation(
            state.step, state.elapsed_s, result.metrics, per_class=result.per_class, image_rgb=result.image_rgb
        )
        epoch = state.step / self._steps_per_epoch
        self._watcher.validated(epoch=epoch, metrics=result.metrics, best=better, per_class=result.per_class)

    def out_of_patience(self) -> bool:
        """Whether so many validations brought no better AP that the run ends here."""
        patience = self._options.patience
        if not patience or self.trainer.fabric.broadcast(self.state.since_best) < patience:
            return False
        self._watcher.note(f"no better AP in {self.state.since_best} validations: ending (train.patience)")
        self.progress = 1.0
        return True

    def save_last(self) -> None:
        """Write `last.ckpt`, to resume from. Validation and saving count against the budget too."""
        self._write_last()
        self._read_clock()

    def finish(self) -> None:
        """Write the last checkpoints, and validate where the last weights were not validated yet.

        Raises:
            TrainingError: the run was stopped before its end.

        """
        state = self.state
        stopped = _agreed(self.trainer.fabric, self.progress, False)[0] < 1 and state.step < self._steps
        self._write_last()
        if self._validator is not None and not stopped and state.scored_step < state.step:
            self.validate()
            self._write_last()
        elif self._validator is None and state.best_step != state.step and self._is_first:
            self._save_best({})
        if stopped:
            raise TrainingError(
                f"stopped at step {state.step} of {self._steps}; continue with --resume --out {self.out}"
            )

    def close(self) -> None:
        """Close the loggers."""
        self._logger.close(completed=self.progress >= 1)

    def _save_best(self, metrics: dict[str, float]) -> None:
        self.state.best_step = self.state.step
        self._provenance.save_trained(self.out / BEST, self._kept.state_dict(), metrics)

    def _write_last(self) -> None:
        if not self._is_first:
            return
        self.state.saved_s = self.state.elapsed_s
        content = {
            **self.trainer.state(),
            "ema": self._ema.state_dict() if self._ema else None,
            "rng": torch.get_rng_state(),
            "state": vars(self.state),
            "class_names": list(self._provenance.class_names),
            "preset": self._provenance.detector.preset,
            "weights_licence": self._provenance.weights_licence,
        }
        if self.trainer.fabric.device.type == "xla":
            content = move_data_to_device(content, torch.device("cpu"))
        save_training_state(self.out / LAST, content, step=self.state.step, keep=self._options.keep_last)

    def _read_clock(self) -> None:
        self.state.elapsed_s = self._elapsed_before_s + time.monotonic() - self._started_s
        self.progress = self._progress()

    def _progress(self) -> float:
        max_minutes = self._options.max_minutes
        by_clock = self.state.elapsed_s / (max_minutes * 60) if max_minutes else 0.0
        return min(1.0, max(self.state.step / self._steps, by_clock))

    def _broken(self, batch: Batch, error: NotFinite) -> TrainingError:
        """What to raise for a batch whose loss is not finite; the first process keeps the batch in the run folder."""
        path = self.out / BROKEN_BATCH
        if self._is_first:
            write_batch(path, batch, self._provenance.class_names)
        return TrainingError(
            f"step {self.state.step + 1}: {error}; lower train.learning_rate (now {self.trainer.learning_rate:g}). "
            f"The last checkpoint is intact; the batch: {path}"
        )


def _agreed(fabric: Fabric, progress: float, stopping: bool) -> tuple[float, bool]:
    """The progress by the mean clock of all processes, and whether any of them was asked to stop."""
    if fabric.world_size == 1:
        return progress, stopping
    mean = fabric.all_reduce(torch.tensor([progress, float(stopping)], device=fabric.device), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return float(mean[0]), bool(mean[1] > 0)
