"""A training set up as `train` sets it up, for a look beforehand: it can take steps, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor, nn

from data import Dataset
from data.augment import Augment
from data.check import check_before_training, load_allowing
from data.formats import load_dataset
from data.loader import Batch, CacheKind, training_batches
from data.tiles import tile_dataset
from detection.checkpoint import model_from_recipe
from detection.config import Recipe
from detection.models import PRESETS, freeze_batchnorm_statistics, freeze_stem
from detection.optimizer import parameter_groups
from detection.train import TrainingError, Watcher, fit_to_input
from detection.weights import load_weights


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What a training starts with.

    Attributes:
        recipe: that it follows.
        dataset: to learn from, cut into tiles where the recipe says so.
        validation: likewise, to score on; None without one.
        network: the detector with its first weights, as it is.
        model: the same, set up by Fabric; to be called.
        optimizer: with the recipe's groups, each with its `peak` rate.
        fabric: where it computes, and how precisely.
        weights: what was loaded, in words.

    """

    recipe: Recipe
    dataset: Dataset
    validation: Dataset | None
    network: nn.Module
    model: Any
    optimizer: torch.optim.Optimizer
    fabric: Fabric
    weights: str

    def batches(self, steps: int, *, workers: int, cache: CacheKind) -> Iterator[Batch]:
        """The first batches that the training would get."""
        recipe, size_hw = self.recipe, self.recipe.input.size_hw
        augment = Augment(size_hw=size_hw, **recipe.augment.settings())
        return training_batches(
            self.dataset,
            fit=partial(fit_to_input, size_hw=size_hw),
            augment=augment,
            scale_range=augment.scale_range,
            batch_size=recipe.train.batch_size,
            seed=recipe.train.seed,
            steps=steps,
            workers=workers,
            cache=cache,
            cache_mb=recipe.train.cache_mb,
        )

    def inputs(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch as the detector takes it: pictures float (3, H, W) in 0..1, targets in its own numbering."""
        offset = PRESETS[self.recipe.model.preset].label_offset
        images = list(self.fabric.to_device(batch.images).float() / 255)
        targets = [
            {"boxes": t["boxes"], "labels": t["labels"] + offset} for t in self.fabric.to_device(batch.targets)
        ]
        return images, targets

    def loss(self, batch: Batch) -> Tensor:
        """The sum of the losses on a batch."""
        self.model.train()
        if self.recipe.train.freeze_batchnorm:
            freeze_batchnorm_statistics(self.model)
        losses: dict[str, Tensor] = self.model(*self.inputs(batch))
        return torch.stack(list(losses.values())).sum()

    def learn(self, loss: Tensor) -> None:
        """One step of the optimizer."""
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.recipe.train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def rehearse(recipe: Recipe, watcher: Watcher) -> Rehearsal:
    """Load, check and build what `train` would, and write nothing.

    Raises:
        SwathError: weights that cannot be had, or a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    load: Callable[..., Dataset] = partial(load_dataset, **recipe.data.reading)
    allow, settings = recipe.data.allow, recipe.train
    dataset = load_allowing(lambda: load(recipe.data.train, split="train"), allow)
    validation = load_allowing(lambda: load(str(recipe.data.val), split="val"), allow) if recipe.data.val else None
    for line in check_before_training(dataset, validation, allow=allow, progress=watcher.progress):
        watcher.note(f"allowed: {line}")
    if recipe.data.tiles is not None:
        dataset, _ = tile_dataset(dataset, **recipe.data.tiles.model_dump())
        validation = validation and tile_dataset(validation, **recipe.data.tiles.model_dump())[0]
    if dataset.box_count == 0:
        raise TrainingError(f"data.train: {dataset.name} has no boxes; there is nothing to learn")
    seed_everything(settings.seed, verbose=False)
    network = model_from_recipe(recipe, len(dataset.class_names))
    report = load_weights(network, recipe.model.preset, recipe.model.backbone, recipe.model.weights)
    if settings.freeze_stem and recipe.model.weights != "none":
        freeze_stem(network, recipe.model.preset)
    network = network.to(memory_format=torch.channels_last)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=settings.precision)
    fabric.launch()
    groups = parameter_groups(
        network,
        learning_rate=settings.learning_rate,
        backbone_rate=settings.backbone_rate if recipe.model.weights != "none" else 1.0,
        weight_decay=settings.weight_decay,
    )
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    model, wrapped = fabric.setup(network, optimizer)
    return Rehearsal(recipe, dataset, validation, network, model, wrapped, fabric, str(report))
