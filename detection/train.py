"""Transfer learning: the training loop, on Lightning Fabric."""

from __future__ import annotations

import csv
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from data import Dataset
from data.augment import Augment
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loader import training_batches
from data.tiles import tile_dataset
from detection.checkpoint import (
    BEST,
    LAST,
    load_training_state,
    model_from_recipe,
    save_trained,
    write_whole,
)
from detection.config import Recipe, Tiles
from detection.distill import distill_into, load_teacher
from detection.evaluate import evaluate
from detection.models import PRESETS, freeze_batchnorm_statistics, freeze_stem
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.torch_detector import TorchDetector
from detection.weights import WeightsReport, load_weights


class TrainingError(SwathError):
    """Training that cannot start or go on."""


class Watcher(Protocol):
    """Who looks on: the terminal, a notebook, nobody."""

    def note(self, line: str) -> None:
        """Something worth a line."""

    def progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` of a task such as "checking pictures"."""

    def step(self, *, step: int, steps: int, share: float, losses: Mapping[str, float], rate: float) -> None:
        """After a step; `share` of the run is done, by steps or by the clock, whichever is further."""

    def validated(self, *, epoch: float, metrics: Mapping[str, float], best: bool) -> None:
        """After a validation."""


@dataclass
class _State:
    """What grows while training, and what a resumed run starts from."""

    step: int = 0
    elapsed_s: float = 0.0
    best_ap: float = -1.0
    best_step: int = -1


def fit_to_input(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The letterbox as the loader takes it: a picture BGR and its boxes -> the input RGB and the boxes in it."""
    canvas, place = letterbox(image_bgr, size_hw)
    return canvas, place.to_input(boxes_xyxy)


class _Fit:
    """`fit_to_input` for one size; a class because worker processes need to pickle it."""

    def __init__(self, size_hw: tuple[int, int]) -> None:
        self.size_hw = size_hw

    def __call__(
        self, image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return fit_to_input(image_bgr, boxes_xyxy, self.size_hw)


def train(
    recipe: Recipe,
    out: Path,
    *,
    watcher: Watcher,
    resume: bool = False,
    stop: threading.Event | None = None,
) -> Path:
    """Fine-tune a detector.

    Args:
        recipe: what to train, on what, how long.
        out: the run folder: `config.yaml`, `metrics.csv`, TensorBoard events, `best.safetensors`,
            `last.ckpt`.
        watcher: told of every step.
        resume: go on from `last.ckpt` in `out`.
        stop: when set, the run is saved after the current step and left.

    Returns:
        The path of `best.safetensors`: the weights with the best AP on the validation split, or the
        last ones where there is none.

    Raises:
        SwathError: a recipe, weights or checkpoint that cannot be used; a loss that is not finite.
        DataError: a dataset that cannot be used.

    """
    started = time.monotonic()
    if not resume and (out / LAST).exists():
        raise TrainingError(f"{out}: holds a run already; give another --out, or go on with --resume")
    load: Callable[..., Dataset] = partial(load_dataset, **recipe.data.reading)
    allow = recipe.data.allow
    dataset = load_allowing(lambda: load(recipe.data.train, split="train"), allow)
    validation = load_allowing(lambda: load(str(recipe.data.val), split="val"), allow) if recipe.data.val else None
    _say_what_is_there(dataset, validation, watcher)
    for line in check_before_training(dataset, validation, allow=allow, progress=watcher.progress):
        watcher.note(f"allowed: {line}")
    fingerprint = dataset.fingerprint()  # of the photos as they are, tiles or not: these can be found again
    if recipe.data.tiles is not None:
        dataset = _tiled("train", dataset, recipe.data.tiles, watcher)
        validation = validation and _tiled("val", validation, recipe.data.tiles, watcher)

    settings = recipe.train
    seed_everything(settings.seed, verbose=False)
    model = model_from_recipe(recipe, len(dataset.class_names))
    state = _State()
    saved: dict[str, Any] | None = None
    report: WeightsReport | None = None
    if resume:
        saved = load_training_state(out / LAST)
        if saved["class_names"] != list(dataset.class_names) or saved["preset"] != recipe.model.preset:
            raise TrainingError(f"{out / LAST}: of another detector or other classes; start anew in another --out")
        licence = saved["weights_licence"]
        state = _State(**saved["state"])
    else:
        report = load_weights(
            model,
            recipe.model.preset,
            recipe.model.backbone,
            recipe.model.weights,
            class_names=dataset.class_names,
            trust_hub=recipe.model.trust_hub,
        )
        for line in report.lines():
            watcher.note(line)
        licence = report.licence

    if recipe.distill is not None:
        teacher = load_teacher(recipe.distill.teacher, dataset.class_names)
        kind, weight = recipe.distill.kind, recipe.distill.weight
        watcher.note(distill_into(model, teacher, size_hw=recipe.input.size_hw, kind=kind, weight=weight))
        if saved is None:
            licence = f"{licence}; taught by {teacher.name}, {teacher.licence}"
    if saved is not None and saved["model"].keys() != model.state_dict().keys():
        raise TrainingError(f"{out / LAST}: its model or distill section was another; start anew in another --out")

    if settings.freeze_stem and recipe.model.weights != "none":
        freeze_stem(model, recipe.model.preset)
    # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
    model = model.to(memory_format=torch.channels_last)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    fabric.launch()
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe), lr=settings.learning_rate)
    model, optimizer = fabric.setup(model, optimizer)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        torch.set_rng_state(saved["rng"])
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "config.yaml", lambda path: path.write_text(recipe.to_yaml(), encoding="utf-8"))
    if report is not None:
        write_whole(out / "weights.json", lambda path: path.write_text(report.to_json(), encoding="utf-8"))

    steps_per_epoch = len(dataset) / settings.batch_size
    steps = math.ceil(settings.epochs * steps_per_epoch)
    validate_every = max(1, round(settings.validate_every * steps_per_epoch))

    def save(name: str, metrics: dict[str, float]) -> None:
        if name == BEST:
            state.best_step = state.step
            save_trained(
                out / BEST,
                model.state_dict(),
                recipe=recipe,
                class_names=dataset.class_names,
                dataset_fingerprint=fingerprint,
                weights_licence=licence,
                metrics=metrics,
            )
            return
        content = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "state": vars(state),
            "class_names": list(dataset.class_names),
            "preset": recipe.model.preset,
            "weights_licence": licence,
        }
        write_whole(out / LAST, lambda path: torch.save(content, path))

    def validate() -> None:
        assert validation is not None
        model.eval()
        detector = TorchDetector(model, recipe.model.preset, dataset.class_names, recipe.input.size_hw)
        scored = evaluate(
            detector, validation, progress=lambda done, total: watcher.progress("validating", done, total)
        ).metrics.coco
        best = scored["AP"] > state.best_ap
        if best:
            state.best_ap = scored["AP"]
            save(BEST, dict(scored))
        record.validation(state, scored)
        watcher.validated(epoch=state.step / steps_per_epoch, metrics=scored, best=best)

    before_s = state.elapsed_s
    offset = PRESETS[recipe.model.preset].label_offset
    record = _Record(out, first_step=state.step, steps_per_epoch=steps_per_epoch)
    augment = Augment(size_hw=recipe.input.size_hw, **recipe.augment.settings())
    batches = training_batches(
        dataset,
        fit=_Fit(recipe.input.size_hw),
        augment=augment,
        scale_range=augment.scale_range,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_step=state.step,
        steps=steps,
        workers=min(settings.workers, os.cpu_count() or 1),
        cache=settings.cache,
        cache_mb=settings.cache_mb,
        pin=fabric.device.type == "cuda",
        note=watcher.note,
    )
    try:
        share = _share(state, steps, settings.max_minutes)
        for batch in batches:
            if share >= 1 or (stop is not None and stop.is_set()):
                break
            model.train()
            if settings.freeze_batchnorm:
                freeze_batchnorm_statistics(model)
            rate = _set_rate(optimizer, share, settings.warmup)
            images = list(fabric.to_device(batch.images).float() / 255)
            targets = [{"boxes": t["boxes"], "labels": t["labels"] + offset} for t in fabric.to_device(batch.targets)]
            losses: dict[str, Tensor] = model(images, targets)
            loss = torch.stack(list(losses.values())).sum()
            values = {name: value.item() for name, value in losses.items()}
            if not math.isfinite(sum(values.values())):
                raise TrainingError(
                    f"step {state.step + 1}: the loss is not finite; lower train.learning_rate "
                    f"(now {settings.learning_rate:g}). The last checkpoint is intact."
                )
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.step += 1
            state.elapsed_s = before_s + time.monotonic() - started
            share = _share(state, steps, settings.max_minutes)
            record.step(state, values, rate)
            watcher.step(step=state.step, steps=steps, share=share, losses=values, rate=rate)
            if state.step % validate_every == 0 and share < 1:
                if validation is not None:
                    validate()
                save(LAST, {})
                # validation and saving count against the budget too
                state.elapsed_s = before_s + time.monotonic() - started
                share = _share(state, steps, settings.max_minutes)
        stopped = share < 1 and state.step < steps
        save(LAST, {})
        if validation is not None and not stopped:
            validate()
            save(LAST, {})
        elif validation is None and state.best_step != state.step:
            save(BEST, {})
        if stopped:
            raise TrainingError(f"stopped at step {state.step} of {steps}; go on with --resume --out {out}")
    finally:
        record.close()
    return out / BEST


def _say_what_is_there(dataset: Dataset, validation: Dataset | None, watcher: Watcher) -> None:
    for name, part in (("train", dataset), ("val", validation)):
        if part is None:
            continue
        if not len(part):
            raise TrainingError(f"data.{name}: {part.name} has no pictures")
        watcher.note(
            f"{name}: {len(part)} pictures, {part.box_count} boxes of {', '.join(part.class_names)} ({part.name})"
        )
        for notice in part.notices:
            watcher.note(f"{name}: {notice}")
    if dataset.box_count == 0:
        raise TrainingError(f"data.train: {dataset.name} has no boxes; there is nothing to learn")
    if validation is not None and not set(validation.class_names) & set(dataset.class_names):
        raise TrainingError(f"data.val: {validation.name} has no class in common with data.train")


def _tiled(name: str, photos: Dataset, tiles: Tiles, watcher: Watcher) -> Dataset:
    tiled, counts = tile_dataset(photos, **tiles.model_dump())
    for line in counts.lines():
        watcher.note(f"{name}: {line}")
    if name == "train" and tiled.box_count == 0:
        raise TrainingError(f"data.tiles: the tiles of {photos.name} keep no box; there is nothing to learn")
    return tiled


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Backbone slower than the rest; no weight decay on biases and norms (they are not there to be small)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone.body."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    settings = recipe.train
    slow = settings.backbone_rate if recipe.model.weights != "none" else 1.0
    return [
        {
            "params": parameters,
            "peak": settings.learning_rate * (slow if is_backbone else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (is_backbone, decays), parameters in groups.items()
    ]


def _share(state: _State, steps: int, max_minutes: float | None) -> float:
    """How much of the run is done, 0 to 1: by steps or by the clock, whichever is further."""
    by_clock = state.elapsed_s / (max_minutes * 60) if max_minutes else 0.0
    return min(1.0, max(state.step / steps, by_clock))


def _set_rate(optimizer: torch.optim.Optimizer, share: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine to a hundredth, over the share of the run rather than over steps.

    So a run that its wall-clock budget ends has cooled down just as one that its epochs end.
    Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.
    """
    if share < warmup:
        factor = max(share / warmup, 0.01)
    else:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


class _Record:
    """`metrics.csv` and TensorBoard events. One row a step; validation fills its columns in its row."""

    _COLUMNS = ("step", "epoch", "minutes", "learning_rate", "loss", "AP", "AP50", "AP75", "losses")

    def __init__(self, out: Path, *, first_step: int, steps_per_epoch: float) -> None:
        self._steps_per_epoch = steps_per_epoch
        path = out / "metrics.csv"
        kept: list[dict[str, str]] = []
        if first_step and path.is_file():  # rows after the checkpoint will be written again
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if row["step"] and int(row["step"]) <= first_step]
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.DictWriter(self._file, self._COLUMNS)
        self._rows.writeheader()
        self._rows.writerows(kept)
        self._out, self._purge = out, first_step + 1 if first_step else None
        self._writer: SummaryWriter | None = None

    @property
    def _board(self) -> SummaryWriter:
        # Made with the first step: it starts a thread, and the loader's workers must have forked by then.
        if self._writer is None:
            self._writer = SummaryWriter(str(self._out), purge_step=self._purge)
        return self._writer

    def _row(self, state: _State, **values: Any) -> None:
        epoch = f"{state.step / self._steps_per_epoch:.3f}"
        minutes = f"{state.elapsed_s / 60:.3f}"
        self._rows.writerow({"step": state.step, "epoch": epoch, "minutes": minutes, **values})
        self._file.flush()

    def step(self, state: _State, losses: Mapping[str, float], rate: float) -> None:
        total = sum(losses.values())
        parts = " ".join(f"{name}={value:.5f}" for name, value in losses.items())
        self._row(state, learning_rate=f"{rate:.3e}", loss=f"{total:.5f}", losses=parts)
        self._board.add_scalar("train/loss", total, state.step)
        self._board.add_scalar("train/learning_rate", rate, state.step)
        for name, value in losses.items():
            self._board.add_scalar(f"train/{name}", value, state.step)

    def validation(self, state: _State, metrics: Mapping[str, float]) -> None:
        self._row(state, **{name: f"{metrics[name]:.5f}" for name in ("AP", "AP50", "AP75")})
        for name, value in metrics.items():
            self._board.add_scalar(f"val/{name}", value, state.step)

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()
