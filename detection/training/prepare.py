"""A recipe becomes a trainer: its keys are unpacked here, and no further module of the training knows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import nn

from data import Dataset
from data.augmentation.augment import Augment
from data.loading.cache import CacheOptions
from data.loading.loader import LoadingOptions
from detection.evaluation.caps import cap_notices
from detection.models.build import build_model
from detection.models.freezing import freeze_stem
from detection.models.weights import WeightsReport, load_weights
from detection.recipe.schema import Recipe
from detection.runtime.letterbox import letterbox
from detection.training.batch_size import fitting_batch_size
from detection.training.batches import BatchSource
from detection.training.distillation import distill_into, load_teacher
from detection.training.engine import make_fabric
from detection.training.fit_options import FitOptions
from detection.training.optimizer import OptimizerOptions
from detection.training.provenance import Provenance
from detection.training.trainer import StepOptions, Trainer
from detection.training.training_data import TrainingData, load_training_data
from detection.training.validation import Validator
from detection.training.watcher import NullWatcher, TrainingError, Watcher


@dataclass(frozen=True, eq=False)
class Prepared:
    """A training before its first step. Nothing is written yet.

    Attributes:
        recipe: resolved: what was `auto` has its value.
        trainer: takes the steps.
        source: of the batches.
        validator: scores the network; None without validation images.
        fit: how long to train, and when to validate and save.
        provenance: what the run is made from.
        watcher: receives the events; a `NullWatcher` in all processes but the first.

    """

    recipe: Recipe
    trainer: Trainer
    source: BatchSource
    validator: Validator | None
    fit: FitOptions
    provenance: Provenance
    watcher: Watcher


def prepare(
    recipe: Recipe, watcher: Watcher, *, saved: Mapping[str, Any] | None = None, start: Path | None = None
) -> Prepared:
    """Read and check the images, build the detector, load its weights, launch the devices.

    Args:
        recipe: what to train, on what.
        watcher: is notified of what was read and loaded.
        saved: the content of a `last.ckpt` to resume; None starts from the recipe's weights.
        start: a detector after synthetic pre-training, to start from instead of the recipe's weights.

    Raises:
        SwathError: weights that cannot be had, a checkpoint of another detector, or a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    settings = recipe.train
    fabric = make_fabric(settings.accelerator, settings.devices, settings.precision)
    if fabric.device.type == "xla" and not recipe.model.options.static_shapes:
        raise TrainingError(
            "train.accelerator tpu: only fcos_lite with model.assign task_aligned or atss keeps its shapes from step "
            "to step; anything else would be compiled anew at every one"
        )
    watcher = watcher if fabric.is_global_zero else NullWatcher()
    data = load_training_data(
        recipe.data.train,
        recipe.data.val,
        reading=recipe.data.reading,
        allow=recipe.data.allow,
        tiles=recipe.data.tiles,
        negatives=recipe.data.negatives,
        how_to_get=recipe.data.how_to_get,
        watcher=watcher,
    )
    limits = recipe.detector
    for name, part in (("train", data.train), ("val", data.validation)):
        if part is not None:
            lines = cap_notices(part, max_detections=limits.max_detections, pre_nms_top_k=limits.top_k)
            for line in lines:
                watcher.note(f"{name}: {line}")
    seed_everything(settings.seed, verbose=False)
    network = build_model(num_classes=len(data.class_names), **recipe.detector.build_arguments())
    report, licence = _initial_weights(network, recipe, data, watcher, saved=saved, start=start)
    if recipe.distill is not None:
        teacher = load_teacher(recipe.distill.teacher, data.class_names)
        watcher.note(distill_into(network, teacher, size_hw=recipe.input.size_hw, weight=recipe.distill.weight))
        if saved is None:
            licence = f"{licence}; taught by the teacher {teacher.name}, {teacher.licence}"
    if settings.freeze_stem and recipe.starts_pretrained:
        freeze_stem(network, recipe.model.preset)
    trainer = Trainer(
        network,
        fabric,
        OptimizerOptions(
            learning_rate=settings.learning_rate,
            backbone_lr_multiplier=settings.backbone_lr_multiplier if recipe.starts_pretrained else 1.0,
            weight_decay=settings.weight_decay,
            layer_decay=settings.layer_decay,
            clip_norm=settings.clip_norm,
        ),
        StepOptions(
            batch_size=1 if settings.batch_size == "auto" else settings.batch_size,
            gradient_accumulation=settings.gradient_accumulation,
            freeze_batchnorm=recipe.freezes_batchnorm,
            compile=settings.compile,
            label_offset=recipe.detector.label_offset,
            padded_boxes=_most_boxes(recipe, data.train) if fabric.device.type == "xla" else None,
        ),
        note=watcher.note,
    )
    if saved is not None:
        try:
            trainer.load_state(saved)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise _other_detector() from None
    if settings.batch_size == "auto":
        trainer.set_batch_size(fitting_batch_size(trainer, recipe.input.size_hw, watcher))
        resolved = settings.model_copy(update={"batch_size": trainer.options.batch_size})
        recipe = recipe.model_copy(update={"train": resolved})
    return Prepared(
        recipe=recipe,
        trainer=trainer,
        source=_batch_source(recipe, data, fabric, watcher),
        validator=_validator(recipe, data),
        fit=_fit_options(recipe),
        provenance=Provenance(
            recipe=recipe.model_dump(mode="json"),
            detector=recipe.detector,
            class_names=data.class_names,
            dataset_fingerprint=data.fingerprint,
            weights_licence=licence,
            weights=report,
        ),
        watcher=watcher,
    )


def _initial_weights(
    network: nn.Module,
    recipe: Recipe,
    data: TrainingData,
    watcher: Watcher,
    *,
    saved: Mapping[str, Any] | None,
    start: Path | None,
) -> tuple[WeightsReport | None, str]:
    """Load the weights to start from, in place: what became of them, and their licence. `saved` is only checked."""
    if saved is not None:
        if saved["class_names"] != list(data.class_names) or saved["preset"] != recipe.model.preset:
            raise _other_detector()
        return None, saved["weights_licence"]
    report = load_weights(
        network,
        recipe.model.preset,
        recipe.model.backbone,
        str(start or recipe.model.weights),
        class_names=data.class_names,
        trust_hub=recipe.model.trust_hub,
        images=lambda: _some_normalised(network, data.train, recipe.input.size_hw),
    )
    for line in report.lines():
        watcher.note(line)
    pretrained = "; pre-trained on synthetic fields rendered by Swath" if start else ""
    return report, report.licence + pretrained


def _other_detector() -> TrainingError:
    return TrainingError(
        "the checkpoint has other classes, or was trained with another model or distill section; start a new run "
        "with another --out"
    )


def _some_normalised(network: Any, dataset: Dataset, size_hw: tuple[int, int]) -> list[torch.Tensor]:
    """A dozen images, evenly spread, float (1, 3, H, W) as the backbone gets them."""
    inputs = [letterbox(image.read(), size_hw)[0] for image in dataset.spread(12).images]
    scaled = [torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 for pixels in inputs]
    return [network.transform.normalize(one)[None] for one in scaled]


def _most_boxes(recipe: Recipe, dataset: Dataset) -> int:
    """The most boxes that an image can have after its augmentation, which may mix several images."""
    return recipe.augment.images_in_one * max(len(image.labels) for image in dataset.images)


def _batch_source(recipe: Recipe, data: TrainingData, fabric: Fabric, watcher: Watcher) -> BatchSource:
    settings = recipe.train
    return BatchSource(
        data=data,
        size_hw=recipe.input.size_hw,
        augment=Augment(recipe.augment, size_hw=recipe.input.size_hw),
        seed=settings.seed,
        balance=recipe.data.balance,
        negative_share=recipe.data.negative_share,
        loading=LoadingOptions(
            workers=min(settings.workers, os.cpu_count() or 1),
            cache=CacheOptions(settings.cache, settings.cache_mb),
            pin_memory=fabric.device.type == "cuda",
        ),
        note=watcher.note,
    )


def _validator(recipe: Recipe, data: TrainingData) -> Validator | None:
    if data.validation is None:
        return None
    return Validator(data.validation, data.class_names, recipe.model.preset, recipe.input.size_hw)


def _fit_options(recipe: Recipe) -> FitOptions:
    settings = recipe.train
    return FitOptions(
        epochs=settings.epochs,
        max_minutes=settings.max_minutes,
        warmup=settings.warmup,
        freeze_backbone=settings.freeze_backbone,
        mixes_end=recipe.augment.mixes_end,
        ema_decay=settings.ema_decay,
        validate_every=settings.validate_every,
        patience=settings.patience,
        save_every_minutes=settings.save_every_minutes,
        keep_last=settings.keep_last,
        loggers=settings.loggers,
    )
