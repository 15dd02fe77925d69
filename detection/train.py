"""Transfer learning: the training loop, on Lightning Fabric."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from numpy.typing import NDArray
from torch import Tensor

from data import Dataset
from data.augment import Augment
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loader import Batch, training_batches
from data.tiles import tile_dataset
from detection.allocator import keep_freed_memory
from detection.checkpoint import (
    BEST,
    BROKEN_BATCH,
    LAST,
    load_training_state,
    model_from_recipe,
    save_batch,
    save_trained,
    save_training_state,
    write_whole,
)
from detection.config import Recipe, Tiles
from detection.drawn import fixed_pictures, found_against_truth, labelled, usable_scores, write_png
from detection.evaluate import evaluate
from detection.models import PRESETS, freeze_batchnorm_statistics, freeze_stem
from detection.optimizer import averaged, parameter_groups, set_rate
from detection.pace import Pace, PaceMeter
from detection.provenance import environment
from detection.record import Record
from detection.run_loggers import check_loggers
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.torch_detector import TorchDetector
from detection.weights import load_weights


class TrainingError(SwathError):
    """Training that cannot start or go on."""


class Watcher(Protocol):
    """Who looks on: the terminal, a notebook, nobody."""

    def note(self, line: str) -> None:
        """Something worth a line."""

    def progress(self, task: str, done: int, total: int) -> None:
        """`done` of `total` of a task such as "checking pictures"."""

    def step(
        self,
        *,
        step: int,
        steps: int,
        share: float,
        losses: Mapping[str, float],
        rate: float,
        epoch: float,
        epochs: float,
        pace: Pace,
    ) -> None:
        """After a step; `share` of the run is done, by steps or by the clock, whichever is further."""

    def validated(
        self, *, epoch: float, metrics: Mapping[str, float], best: bool, per_class: Mapping[str, float]
    ) -> None:
        """After a validation; `per_class` is each class's AP, -1 where there is nothing to find."""


@dataclass
class _State:
    """What grows while training, and what a resumed run starts from."""

    step: int = 0
    elapsed_s: float = 0.0
    best_ap: float = -1.0
    best_step: int = -1
    since_best: int = 0
    scored_step: int = -1
    saved_s: float = 0.0


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
    check_loggers(recipe.train.loggers)
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
    if resume:
        saved = load_training_state(out / LAST)
        if saved["class_names"] != list(dataset.class_names) or saved["preset"] != recipe.model.preset:
            raise TrainingError(f"{out / LAST}: of another detector or other classes; start anew in another --out")
        licence = saved["weights_licence"]
        state = _State(**saved["state"])
    else:
        report = load_weights(model, recipe.model.preset, recipe.model.backbone, recipe.model.weights)
        watcher.note(str(report))
        licence = report.licence

    if settings.freeze_stem and recipe.model.weights != "none":
        freeze_stem(model, recipe.model.preset)
    # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
    model = model.to(memory_format=torch.channels_last)
    keep_freed_memory()
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    fabric.launch()
    groups = parameter_groups(
        model,
        learning_rate=settings.learning_rate,
        backbone_rate=settings.backbone_rate if recipe.model.weights != "none" else 1.0,
        weight_decay=settings.weight_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    network = model
    model, optimizer = fabric.setup(network, optimizer)
    average = averaged(network, settings.average) if settings.average else None
    kept = average.module if average else network  # whose weights are scored and shipped
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if average:
            average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["rng"])
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "config.yaml", lambda path: path.write_text(recipe.to_yaml(), encoding="utf-8"))
    made_with = json.dumps(environment() | {"dataset": fingerprint}, indent=1) + "\n"
    write_whole(out / "environment.json", lambda path: path.write_text(made_with, encoding="utf-8"))

    steps_per_epoch = len(dataset) / settings.batch_size
    steps = math.ceil(settings.epochs * steps_per_epoch)
    validate_every = max(1, round(settings.validate_every * steps_per_epoch))

    def save(name: str, metrics: dict[str, float]) -> None:
        if name == BEST:
            state.best_step = state.step
            save_trained(
                out / BEST,
                kept.state_dict(),
                recipe=recipe,
                class_names=dataset.class_names,
                dataset_fingerprint=fingerprint,
                weights_licence=licence,
                metrics=metrics,
            )
            return
        state.saved_s = state.elapsed_s
        content = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.state_dict() if average else None,
            "rng": torch.get_rng_state(),
            "state": vars(state),
            "class_names": list(dataset.class_names),
            "preset": recipe.model.preset,
            "weights_licence": licence,
        }
        save_training_state(out / LAST, content)

    def validate() -> None:
        assert validation is not None
        state.scored_step = state.step
        kept.eval()
        detector = TorchDetector(kept, recipe.model.preset, dataset.class_names, recipe.input.size_hw)
        outcome = evaluate(
            detector, validation, progress=lambda done, total: watcher.progress("validating", done, total)
        )
        scored = outcome.metrics.coco
        per_class = {name: of_class.AP for name, of_class in outcome.metrics.per_class.items()}
        best = scored["AP"] > state.best_ap
        state.since_best = 0 if best else state.since_best + 1
        if best:
            state.best_ap = scored["AP"]
            save(BEST, dict(scored))
        thresholds = usable_scores(outcome.metrics, validation.class_names)
        shown = found_against_truth(validation, fixed_pictures(validation), outcome.found, thresholds)
        record.validation(state, scored, per_class=per_class, picture_rgb=shown[..., ::-1])
        watcher.validated(epoch=state.step / steps_per_epoch, metrics=scored, best=best, per_class=per_class)

    before_s = state.elapsed_s
    offset = PRESETS[recipe.model.preset].label_offset
    record = Record(
        out,
        first_step=state.step,
        steps_per_epoch=steps_per_epoch,
        loggers=settings.loggers,
        recipe=recipe.model_dump(mode="json"),
    )
    meter = PaceMeter(fabric.device)
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
    share = _share(state, steps, settings.max_minutes)
    try:
        for batch in meter.waiting(batches):
            if share >= 1 or (stop is not None and stop.is_set()):
                break
            model.train()
            if settings.freeze_batchnorm:
                freeze_batchnorm_statistics(model)
            rate = set_rate(optimizer, share, settings.warmup)
            images = list(fabric.to_device(batch.images).float() / 255)
            targets = [{"boxes": t["boxes"], "labels": t["labels"] + offset} for t in fabric.to_device(batch.targets)]
            losses: dict[str, Tensor] = model(images, targets)
            loss = torch.stack(list(losses.values())).sum()
            values = {name: value.item() for name, value in losses.items()}
            if not math.isfinite(sum(values.values())):
                _keep_for_inspection(out, batch, dataset.class_names)
                raise TrainingError(
                    f"step {state.step + 1}: the loss is not finite; lower train.learning_rate (now "
                    f"{settings.learning_rate:g}). The last checkpoint is intact; the batch: {out / BROKEN_BATCH}"
                )
            fabric.backward(loss)
            fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if average:
                average.update_parameters(network)
            state.step += 1
            state.elapsed_s = before_s + time.monotonic() - started
            share = _share(state, steps, settings.max_minutes)
            record.step(state, values, rate)
            watcher.step(
                step=state.step,
                steps=steps,
                share=share,
                losses=values,
                rate=rate,
                epoch=state.step / steps_per_epoch,
                epochs=settings.epochs,
                pace=meter.stepped(len(batch.indices)),
            )
            validating = state.step % validate_every == 0 and share < 1
            if validating and validation is not None:
                validate()
                if settings.patience and state.since_best >= settings.patience:
                    watcher.note(f"no better AP in {state.since_best} validations: ending (train.patience)")
                    share = 1.0
                    break
            if validating or state.elapsed_s - state.saved_s >= 60 * settings.save_every_minutes:
                save(LAST, {})
                # validation and saving count against the budget too
                state.elapsed_s = before_s + time.monotonic() - started
                share = _share(state, steps, settings.max_minutes)
        stopped = share < 1 and state.step < steps
        save(LAST, {})
        if validation is not None and not stopped and state.scored_step < state.step:
            validate()
            save(LAST, {})
        elif validation is None and state.best_step != state.step:
            save(BEST, {})
        if stopped:
            raise TrainingError(f"stopped at step {state.step} of {steps}; go on with --resume --out {out}")
    finally:
        record.close(whole=share >= 1)
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


def _keep_for_inspection(out: Path, batch: Batch, class_names: Sequence[str]) -> None:
    """The batch as tensors, and as a picture to look at."""
    save_batch(out / BROKEN_BATCH, batch.images, batch.targets)
    images_bgr = [image.permute(1, 2, 0).numpy()[..., ::-1].copy() for image in batch.images]
    boxes = [target["boxes"].numpy() for target in batch.targets]
    drawn = labelled(images_bgr, boxes, [target["labels"].numpy() for target in batch.targets], class_names)
    write_whole((out / BROKEN_BATCH).with_suffix(".png"), lambda path: path.write_bytes(write_png(drawn)))


def _share(state: _State, steps: int, max_minutes: float | None) -> float:
    """How much of the run is done, 0 to 1: by steps or by the clock, whichever is further."""
    by_clock = state.elapsed_s / (max_minutes * 60) if max_minutes else 0.0
    return min(1.0, max(state.step / steps, by_clock))
