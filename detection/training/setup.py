"""A training, set up: images checked, detector built, optimizer at hand. `train` begins here, and a dry run too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities.seed import seed_everything

from data import Dataset
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loading.loader import Batch
from data.loading.negatives import with_negatives
from data.loading.tiles import TileSettings, tile_dataset
from detection.models.build import build_model
from detection.models.freezing import batchnorm_as_arithmetic, freeze_stem
from detection.models.weights import WeightsReport, load_weights
from detection.recipe.schema import Data, Recipe
from detection.runtime.letterbox import letterbox
from detection.training.allocator import keep_freed_memory
from detection.training.distillation import distill_into, load_teacher
from detection.training.engine import is_out_of_memory, make_fabric
from detection.training.optimizer import body_parameters, parameter_groups
from detection.training.steps import Setup, number
from detection.training.watcher import Nobody, TrainingError, Watcher


def set_up(
    recipe: Recipe, watcher: Watcher, *, saved: Mapping[str, Any] | None = None, start: Path | None = None
) -> Setup:
    """Read and check the images, build the detector, load its weights. Nothing is written.

    Args:
        recipe: what to train, on what.
        watcher: told of what is there and what is done.
        saved: the content of a `last.ckpt` to go on from; None starts from the recipe's weights.
        start: a detector that has practised (`detection.training.synthetic_pretraining`), instead of the
            recipe's weights.

    Raises:
        SwathError: weights that cannot be had, a checkpoint of another detector, or a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    load: Callable[..., Dataset] = partial(load_dataset, **recipe.data.reading)
    allow, settings = recipe.data.allow, recipe.train
    fabric = make_fabric(settings)
    if fabric.device.type == "xla" and not recipe.model.options.static_shapes:
        raise TrainingError(
            "train.accelerator tpu: only fcos_lite with model.assign task_aligned or atss keeps its shapes from step "
            "to step; anything else would be compiled anew at every one"
        )
    watcher = watcher if fabric.is_global_zero else Nobody()
    dataset = load_allowing(lambda: load(recipe.data.train, split="train"), allow)
    validation = load_allowing(lambda: load(str(recipe.data.val), split="val"), allow) if recipe.data.val else None
    _say_what_is_there(dataset, validation, watcher)
    for line in check_before_training(dataset, validation, allow=allow, progress=watcher.progress):
        watcher.note(f"allowed: {line}")
    fingerprint = dataset.fingerprint()
    if recipe.data.tiles is not None:
        dataset = _tiled("train", dataset, recipe.data.tiles, watcher)
        validation = validation and _tiled("val", validation, recipe.data.tiles, watcher)
    dataset, negatives = _with_negatives(dataset, recipe.data, watcher)

    seed_everything(settings.seed, verbose=False)
    report: WeightsReport | None = None
    network = build_model(num_classes=len(dataset.class_names), **recipe.detector.build_arguments())
    other = TrainingError(
        "the checkpoint is of other classes, or its model or distill section was another; start anew in another --out"
    )
    if saved is None:
        report = load_weights(
            network,
            recipe.model.preset,
            recipe.model.backbone,
            str(start or recipe.model.weights),
            class_names=dataset.class_names,
            trust_hub=recipe.model.trust_hub,
            images=lambda: _some_normalised(network, dataset, recipe.input.size_hw),
        )
        for line in report.lines():
            watcher.note(line)
        licence = f"{report.licence}; practised on fields rendered by Swath" if start else report.licence
    elif saved["class_names"] != list(dataset.class_names) or saved["preset"] != recipe.model.preset:
        raise other
    else:
        licence = saved["weights_licence"]
    if recipe.distill is not None:
        teacher = load_teacher(recipe.distill.teacher, dataset.class_names)
        kind, weight = recipe.distill.kind, recipe.distill.weight
        watcher.note(distill_into(network, teacher, size_hw=recipe.input.size_hw, kind=kind, weight=weight))
        if saved is None:
            licence = f"{licence}; taught by {teacher.name}, {teacher.licence}"
    if settings.freeze_stem and recipe.starts_pretrained:
        freeze_stem(network, recipe.model.preset)
    # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
    if fabric.device.type != "xla":
        network = network.to(memory_format=torch.channels_last)
    elif recipe.freezes_batchnorm:
        batchnorm_as_arithmetic(network)
    keep_freed_memory()
    body = body_parameters(network)
    groups = parameter_groups(
        network,
        learning_rate=settings.learning_rate,
        backbone_rate=settings.backbone_rate if recipe.starts_pretrained else 1.0,
        weight_decay=settings.weight_decay,
        layer_decay=settings.layer_decay,
    )
    if settings.compile:
        network.get_submodule("backbone").compile()
    model, optimizer = fabric.setup(network, torch.optim.AdamW(groups, lr=settings.learning_rate))
    if saved is not None:
        try:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            fabric.strategy.precision.load_state_dict(saved["precision"])
        except (RuntimeError, ValueError):
            raise other from None
    ready = Setup(
        recipe=recipe,
        dataset=dataset,
        validation=validation,
        network=network,
        model=model,
        optimizer=optimizer,
        fabric=fabric,
        fingerprint=fingerprint,
        report=report,
        licence=licence,
        watcher=watcher,
        body=body,
        negatives=negatives,
        part=1,
    )
    if settings.batch_size == "auto":
        found = fitting_batch_size(ready)
        ready.recipe = recipe.model_copy(update={"train": settings.model_copy(update={"batch_size": found})})
    ready.part = number(ready.recipe.train.batch_size)
    return ready


def fitting_batch_size(ready: Setup, *, most: int = 64, fill: float = 0.85) -> int:
    """How many images fit into the GPU's memory at once; 4 where there is no GPU whose memory could be asked for.

    Powers of two are tried, gradients and all, until one does not fit or the next one would not.

    Args:
        ready: a training before its first step; it is as it was afterwards.
        most: where to stop.
        fill: share of the memory that may be taken.

    """
    device = ready.fabric.device
    if device.type != "cuda":
        ready.watcher.note(
            f"train.batch_size auto: 4 (only the memory of CUDA devices can be tried, not of {device.type})"
        )
        return 4
    total = torch.cuda.get_device_properties(device).total_memory
    generator = np.random.default_rng(0)
    height, width = ready.recipe.input.size_hw
    fits = 1
    for count in (2**power for power in range(most.bit_length())):
        images = torch.from_numpy(generator.integers(0, 256, (count, 3, height, width), np.uint8))
        boxes = torch.tensor([[0.0, 0.0, width / (1 + n % 8), height / (1 + n % 8)] for n in range(32)])
        targets = [{"boxes": boxes.clone(), "labels": torch.zeros(32, dtype=torch.int64)} for _ in range(count)]
        torch.cuda.reset_peak_memory_stats(device)
        try:
            losses = ready.losses(Batch(images, targets, list(range(count))))
            ready.fabric.backward(torch.stack(list(losses.values())).sum())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        finally:
            ready.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        fits = count
        if 2 * torch.cuda.max_memory_reserved(device) > fill * total:
            break
    fits = int(ready.fabric.broadcast(fits))
    ready.watcher.note(f"train.batch_size auto: {fits}")
    return fits


def _some_normalised(network: Any, dataset: Dataset, size_hw: tuple[int, int]) -> list[torch.Tensor]:
    """A dozen images, evenly spread, float (1, 3, H, W) as the backbone gets them."""
    inputs = [letterbox(image.read(), size_hw)[0] for image in dataset.spread(12).images]
    scaled = [torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 for pixels in inputs]
    return [network.transform.normalize(one)[None] for one in scaled]


def _say_what_is_there(dataset: Dataset, validation: Dataset | None, watcher: Watcher) -> None:
    for name, part in (("train", dataset), ("val", validation)):
        if part is None:
            continue
        if not len(part):
            raise TrainingError(f"data.{name}: {part.name} has no images")
        watcher.note(
            f"{name}: {len(part)} images, {part.box_count} boxes of {', '.join(part.class_names)} ({part.name})"
        )
        for notice in part.notices:
            watcher.note(f"{name}: {notice}")
    if dataset.box_count == 0:
        raise TrainingError(f"data.train: {dataset.name} has no boxes; there is nothing to learn")
    if validation is not None and not set(validation.class_names) & set(dataset.class_names):
        raise TrainingError(f"data.val: {validation.name} has no class in common with data.train")


def _with_negatives(dataset: Dataset, data: Data, watcher: Watcher) -> tuple[Dataset, int]:
    if data.negatives is None:
        return dataset, 0
    both, negatives = with_negatives(dataset, Path(data.negatives))
    if data.tiles is not None:
        photos = replace(both, images=both.images[len(dataset) :])
        tiles = _tiled("negatives", photos, data.tiles, watcher)
        first_id = 1 + max((image.image_id for image in dataset.images), default=0)
        more = tuple(replace(tile, image_id=first_id + number) for number, tile in enumerate(tiles.images))
        both, negatives = replace(dataset, images=(*dataset.images, *more)), len(more)
    watcher.note(
        f"negatives: {negatives} images, {data.negative_share:.0%} of what is learned from ({data.negatives})"
    )
    return both, negatives


def _tiled(name: str, photos: Dataset, tiles: TileSettings, watcher: Watcher) -> Dataset:
    tiled, counts = tile_dataset(photos, tiles)
    for line in counts.lines():
        watcher.note(f"{name}: {line}")
    if name == "train" and tiled.box_count == 0:
        raise TrainingError(f"data.tiles: the tiles of {photos.name} keep no box; there is nothing to learn")
    return tiled
