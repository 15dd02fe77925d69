"""A training, set up: pictures checked, detector built, optimizer at hand. `train` begins here, and a dry run too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn

from data import Dataset
from data.augment import Augment
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loader import Batch, CacheKind, training_batches
from data.tiles import tile_dataset
from detection.allocator import keep_freed_memory
from detection.checkpoint import model_from_recipe
from detection.config import Recipe, Tiles
from detection.distill import distill_into, load_teacher
from detection.models import PRESETS, freeze_batchnorm_statistics, freeze_stem
from detection.optimizer import parameter_groups
from detection.pace import Pace
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.weights import WeightsReport, load_weights


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


@dataclass(frozen=True, eq=False)
class Setup:
    """What a training starts with.

    Attributes:
        recipe: that it follows.
        dataset: to learn from, cut into tiles where the recipe says so.
        validation: likewise, to score on; None without one.
        network: the detector with its first weights, as it is.
        model: the same, set up by Fabric; to be called.
        optimizer: with the recipe's groups, each with its `peak` rate.
        fabric: where it computes, and how precisely.
        fingerprint: of the pictures to learn from as they are, in tiles or not: they can be found again.
        report: what became of every tensor of the first weights; None where a run goes on.
        licence: of the first weights.

    """

    recipe: Recipe
    dataset: Dataset
    validation: Dataset | None
    network: nn.Module
    model: Any
    optimizer: torch.optim.Optimizer
    fabric: Fabric
    fingerprint: str
    report: WeightsReport | None
    licence: str

    def batches(
        self,
        steps: int,
        *,
        first_step: int = 0,
        workers: int,
        cache: CacheKind,
        note: Callable[[str], None] | None = None,
    ) -> Iterator[Batch]:
        """The batches of the run, from `first_step` on to `steps`."""
        recipe, size_hw = self.recipe, self.recipe.input.size_hw
        augment = Augment(size_hw=size_hw, **recipe.augment.settings())
        return training_batches(
            self.dataset,
            fit=partial(fit_to_input, size_hw=size_hw),
            augment=augment,
            scale_range=augment.scale_range,
            batch_size=recipe.train.batch_size,
            seed=recipe.train.seed,
            first_step=first_step,
            steps=steps,
            workers=workers,
            cache=cache,
            cache_mb=recipe.train.cache_mb,
            pin=self.fabric.device.type == "cuda",
            note=note,
        )

    def inputs(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch as the detector takes it: pictures float (3, H, W) in 0..1, targets in its own numbering."""
        offset = PRESETS[self.recipe.model.preset].label_offset
        images = list(self.fabric.to_device(batch.images).float() / 255)
        targets = [
            {"boxes": t["boxes"], "labels": t["labels"] + offset} for t in self.fabric.to_device(batch.targets)
        ]
        return images, targets

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each loss on a batch, in training mode."""
        self.model.train()
        if self.recipe.train.freeze_batchnorm:
            freeze_batchnorm_statistics(self.model)
        losses: dict[str, Tensor] = self.model(*self.inputs(batch))
        return losses

    def learn(self, losses: Mapping[str, Tensor]) -> None:
        """One step of the optimizer along the sum of the losses."""
        self.fabric.backward(torch.stack(list(losses.values())).sum())
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def set_up(recipe: Recipe, watcher: Watcher, *, saved: Mapping[str, Any] | None = None) -> Setup:
    """Read and check the pictures, build the detector, load its weights. Nothing is written.

    Args:
        recipe: what to train, on what.
        watcher: told of what is there and what is done.
        saved: the content of a `last.ckpt` to go on from; None starts from the recipe's weights.

    Raises:
        SwathError: weights that cannot be had, a checkpoint of another detector, or a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    load: Callable[..., Dataset] = partial(load_dataset, **recipe.data.reading)
    allow, settings = recipe.data.allow, recipe.train
    dataset = load_allowing(lambda: load(recipe.data.train, split="train"), allow)
    validation = load_allowing(lambda: load(str(recipe.data.val), split="val"), allow) if recipe.data.val else None
    _say_what_is_there(dataset, validation, watcher)
    for line in check_before_training(dataset, validation, allow=allow, progress=watcher.progress):
        watcher.note(f"allowed: {line}")
    fingerprint = dataset.fingerprint()
    if recipe.data.tiles is not None:
        dataset = _tiled("train", dataset, recipe.data.tiles, watcher)
        validation = validation and _tiled("val", validation, recipe.data.tiles, watcher)

    seed_everything(settings.seed, verbose=False)
    report: WeightsReport | None = None
    network = model_from_recipe(recipe, len(dataset.class_names))
    other = TrainingError(
        "the checkpoint is of other classes, or its model or distill section was another; start anew in another --out"
    )
    if saved is None:
        report = load_weights(
            network,
            recipe.model.preset,
            recipe.model.backbone,
            recipe.model.weights,
            class_names=dataset.class_names,
            trust_hub=recipe.model.trust_hub,
        )
        for line in report.lines():
            watcher.note(line)
        licence = report.licence
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
    starts_pretrained = recipe.model.weights != "none"
    if settings.freeze_stem and starts_pretrained:
        freeze_stem(network, recipe.model.preset)
    # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
    network = network.to(memory_format=torch.channels_last)
    keep_freed_memory()
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    fabric.launch()
    groups = parameter_groups(
        network,
        learning_rate=settings.learning_rate,
        backbone_rate=settings.backbone_rate if starts_pretrained else 1.0,
        weight_decay=settings.weight_decay,
    )
    model, optimizer = fabric.setup(network, torch.optim.AdamW(groups, lr=settings.learning_rate))
    if saved is not None:
        try:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError):
            raise other from None
    return Setup(recipe, dataset, validation, network, model, optimizer, fabric, fingerprint, report, licence)


def fit_to_input(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The letterbox as the loader takes it: a picture BGR and its boxes -> the input RGB and the boxes in it."""
    canvas, place = letterbox(image_bgr, size_hw)
    return canvas, place.to_input(boxes_xyxy)


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
