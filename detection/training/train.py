"""Transfer learning: the training loop, on Lightning Fabric."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import Tensor

from data.loading.loader import Batch
from detection.evaluation.coco_metrics import usable_scores
from detection.evaluation.evaluate import evaluate
from detection.models.checkpoint import (
    BEST,
    BROKEN_BATCH,
    LAST,
    load_training_state,
    save_batch,
    save_trained,
    save_training_state,
    write_whole,
)
from detection.models.torch_detector import TorchDetector
from detection.recipe.schema import Recipe
from detection.training.metrics_logger import Record
from detection.training.optimizer import averaged, set_rate
from detection.training.provenance import environment
from detection.training.run_loggers import check_loggers
from detection.training.setup import set_up
from detection.training.steps import Setup
from detection.training.synthetic_pretraining import pretrained
from detection.training.throughput import PaceMeter
from detection.training.visualisation import fixed_images, found_against_truth, labelled, write_png
from detection.training.watcher import NotFinite, Step, TrainingError, Watcher


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
    saved = load_training_state(out / LAST) if resume else None
    start = None
    if recipe.pretrain is not None and saved is None:
        start = pretrained(recipe, train, watcher=watcher, stop=stop)
        started = time.monotonic()  # the budget is for the photos
    ready = set_up(recipe, watcher, saved=saved, start=start)
    recipe, watcher = ready.recipe, ready.watcher
    dataset, validation, settings = ready.dataset, ready.validation, recipe.train
    network, model, optimizer, fabric = ready.network, ready.model, ready.optimizer, ready.fabric
    state = _State(**saved["state"]) if saved else _State()
    average = averaged(network, settings.average) if settings.average else None
    kept = average.module if average else network  # whose weights are scored and shipped
    if saved is not None:
        if average and saved["average"]:
            average.load_state_dict(saved["average"])
        torch.set_rng_state(saved["rng"])
    if fabric.is_global_zero:
        _describe(ready, out)

    steps_per_epoch = len(dataset) / ready.images_a_step
    steps = math.ceil(settings.epochs * steps_per_epoch)
    validate_every = max(1, round(settings.validate_every * steps_per_epoch))

    def save(name: str, metrics: dict[str, float]) -> None:
        if not fabric.is_global_zero:
            return
        if name == BEST:
            state.best_step = state.step
            save_trained(
                out / BEST,
                kept.state_dict(),
                config=recipe.detector,
                recipe=recipe.model_dump(mode="json"),
                class_names=dataset.class_names,
                dataset_fingerprint=ready.fingerprint,
                weights_licence=ready.licence,
                metrics=metrics,
            )
            return
        state.saved_s = state.elapsed_s
        content = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "precision": fabric.strategy.precision.state_dict(),
            "average": average.state_dict() if average else None,
            "rng": torch.get_rng_state(),
            "state": vars(state),
            "class_names": list(dataset.class_names),
            "preset": recipe.model.preset,
            "weights_licence": ready.licence,
        }
        if fabric.device.type == "xla":
            content = move_data_to_device(content, torch.device("cpu"))
        save_training_state(out / LAST, content, step=state.step, keep=settings.keep_last)

    def validate() -> None:
        """In the first process; the others wait for it where they next agree on something."""
        assert validation is not None
        state.scored_step = state.step
        if not fabric.is_global_zero:
            return
        # on XLA every image with another number of boxes would be compiled anew
        scored_by = (deepcopy(kept).to("cpu") if fabric.device.type == "xla" else kept).eval()
        detector = TorchDetector(scored_by, recipe.model.preset, dataset.class_names, recipe.input.size_hw)
        with torch.compiler.set_stance("force_eager"):  # single images: compiling anew costs more than it saves
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
        shown = found_against_truth(validation, fixed_images(validation), outcome.found, thresholds)
        record.validation(state, scored, per_class=per_class, image_rgb=shown[..., ::-1])
        watcher.validated(epoch=state.step / steps_per_epoch, metrics=scored, best=best, per_class=per_class)

    before_s = state.elapsed_s
    record = Record(
        out,
        first_step=state.step,
        steps_per_epoch=steps_per_epoch,
        loggers=settings.loggers if fabric.is_global_zero else (),
        recipe=recipe.model_dump(mode="json"),
    )
    meter = PaceMeter(fabric.device)
    batches = ready.batches(
        steps,
        first_step=state.step,
        workers=min(settings.workers, os.cpu_count() or 1),
        cache=settings.cache,
        # asked ahead of time, for steps that the loader prepares: the clock may have gone on when they come
        mixing=lambda step: max(step / steps, share) < recipe.augment.mixes_end,
    )
    share = _share(state, steps, settings.max_minutes)
    try:
        for batch in meter.waiting(batches):
            share, stopping = _agreed(fabric, share, stop is not None and stop.is_set())
            if share >= 1 or stopping:
                break
            rate = set_rate(optimizer, share, settings.warmup)
            try:
                values = ready.learn(batch, hold_backbone=share < settings.thaw)
            except NotFinite as error:
                if fabric.is_global_zero:
                    _keep_for_inspection(out, batch, dataset.class_names)
                raise TrainingError(
                    f"step {state.step + 1}: {error}; lower train.learning_rate (now "
                    f"{settings.learning_rate:g}). The last checkpoint is intact; the batch: {out / BROKEN_BATCH}"
                ) from None
            if average:
                average.update_parameters(network)
            state.step += 1
            state.elapsed_s = before_s + time.monotonic() - started
            share = _share(state, steps, settings.max_minutes)
            record.step(state, values, rate)
            taken = Step(
                number=state.step,
                steps=steps,
                share=share,
                losses=values,
                rate=rate,
                epoch=state.step / steps_per_epoch,
                epochs=settings.epochs,
                pace=meter.stepped(ready.images_a_step),
            )
            watcher.step(taken)
            validating = state.step % validate_every == 0 and share < 1
            if validating and validation is not None:
                validate()
                if settings.patience and fabric.broadcast(state.since_best) >= settings.patience:
                    watcher.note(f"no better AP in {state.since_best} validations: ending (train.patience)")
                    share = 1.0
                    break
            if validating or state.elapsed_s - state.saved_s >= 60 * settings.save_every_minutes:
                save(LAST, {})
                # validation and saving count against the budget too
                state.elapsed_s = before_s + time.monotonic() - started
                share = _share(state, steps, settings.max_minutes)
        stopped = _agreed(fabric, share, False)[0] < 1 and state.step < steps
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


def _describe(ready: Setup, out: Path) -> None:
    """What the run is made of, written before its first step."""
    made_with = json.dumps(environment() | {"dataset": ready.fingerprint}, indent=1) + "\n"
    texts = {"config.yaml": ready.recipe.to_yaml(), "environment.json": made_with}
    if ready.report is not None:
        texts["weights.json"] = ready.report.to_json()
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_whole(out / name, partial(Path.write_text, data=text, encoding="utf-8"))


def _agreed(fabric: Fabric, share: float, stopping: bool) -> tuple[float, bool]:
    """How much is done, by the mean clock of all processes, and whether any of them is told to stop."""
    if fabric.world_size == 1:
        return share, stopping
    mean = fabric.all_reduce(torch.tensor([share, float(stopping)], device=fabric.device), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return float(mean[0]), bool(mean[1] > 0)


def _keep_for_inspection(out: Path, batch: Batch, class_names: Sequence[str]) -> None:
    """The batch as tensors, and as an image to look at."""
    save_batch(out / BROKEN_BATCH, batch.images, batch.targets)
    images_bgr = [image.permute(1, 2, 0).numpy()[..., ::-1].copy() for image in batch.images]
    boxes = [target["boxes"].numpy() for target in batch.targets]
    drawn = labelled(images_bgr, boxes, [target["labels"].numpy() for target in batch.targets], class_names)
    write_whole((out / BROKEN_BATCH).with_suffix(".png"), lambda path: path.write_bytes(write_png(drawn)))


def _share(state: _State, steps: int, max_minutes: float | None) -> float:
    """How much of the run is done, 0 to 1: by steps or by the clock, whichever is further."""
    by_clock = state.elapsed_s / (max_minutes * 60) if max_minutes else 0.0
    return min(1.0, max(state.step / steps, by_clock))
