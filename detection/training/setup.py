"""A training, set up: pictures checked, detector built, optimizer at hand. `train` begins here, and a dry run too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
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
from data.negatives import with_negatives
from data.sampling import picture_weights
from data.tiles import tile_dataset
from detection.checkpoint import model_from_recipe
from detection.config import Data, Recipe, Tiles
from detection.models import PRESETS, freeze_batchnorm_statistics, freeze_stem, norm_by_arithmetic
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.training.allocator import hand_back_freed_memory, keep_freed_memory
from detection.training.distill import distill_into, load_teacher
from detection.training.engine import is_out_of_memory, make_fabric
from detection.training.optimizer import body_parameters, parameter_groups
from detection.training.pace import Pace
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


class Nobody:
    """A `Watcher` that looks away: further processes of a training have nothing to say that the first does not."""

    def note(self, line: str) -> None:
        """Nothing."""

    def progress(self, task: str, done: int, total: int) -> None:
        """Nothing."""

    def step(self, **_: Any) -> None:
        """Nothing."""

    def validated(self, **_: Any) -> None:
        """Nothing."""


class NotFinite(TrainingError):
    """A loss or gradient that is not a number; the weights are as they were before the step."""


@dataclass(eq=False)
class Setup:
    """What a training starts with.

    Attributes:
        recipe: that it follows, what was to be found out automatically filled in.
        dataset: to learn from, cut into tiles where the recipe says so; the last ones are the negatives.
        validation: likewise, to score on; None without one.
        network: the detector with its first weights, as it is.
        model: the same, set up by Fabric; to be called.
        optimizer: with the recipe's groups, each with its `peak` rate.
        fabric: where it computes, and how precisely.
        fingerprint: of the pictures to learn from as they are, in tiles or not: they can be found again.
        report: what became of every tensor of the first weights; None where a run goes on.
        licence: of the first weights.
        watcher: who looks on; nobody, in all processes but the first.
        body: what of the backbone learns.
        negatives: how many of the pictures are negatives.
        part: pictures computed at once; smaller than `train.batch_size` after the memory was full.

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
    watcher: Watcher
    body: list[nn.Parameter]
    negatives: int
    part: int

    @property
    def pictures_a_step(self) -> int:
        """Of all processes together."""
        return self._own_pictures * int(self.fabric.world_size)

    @property
    def _own_pictures(self) -> int:
        settings = self.recipe.train
        return _number(settings.batch_size) * settings.accumulate

    def batches(
        self,
        steps: int,
        *,
        first_step: int = 0,
        workers: int,
        cache: CacheKind,
        mixing: Callable[[int], bool] | None = None,
    ) -> Iterator[Batch]:
        """Pictures of this process for every step from `first_step` on; `mixing` as the loader takes it."""
        recipe, size_hw = self.recipe, self.recipe.input.size_hw
        augment = Augment(size_hw=size_hw, **recipe.augment.settings())
        return training_batches(
            self.dataset,
            fit=partial(fit_to_input, size_hw=size_hw),
            augment=augment,
            scale_range=augment.scale_range,
            batch_size=self._own_pictures,
            seed=recipe.train.seed,
            first_step=first_step,
            steps=steps,
            workers=workers,
            cache=cache,
            cache_mb=recipe.train.cache_mb,
            pin=self.fabric.device.type == "cuda",
            note=self.watcher.note,
            weights=picture_weights(
                self.dataset,
                balance=recipe.data.balance,
                negatives=self.negatives,
                share=recipe.data.negative_share,
            ),
            rank=self.fabric.global_rank,
            world=self.fabric.world_size,
            mixing=mixing,
        )

    def inputs(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch as the detector takes it: pictures float (3, H, W) in 0..1, targets in its own numbering."""
        offset = PRESETS[self.recipe.model.preset].label_offset
        images = list(self.fabric.to_device(batch.images).float() / 255)
        wanted = batch.targets
        if self.fabric.device.type == "xla":
            mixes = self.recipe.augment
            pictures_in_one = (4 if mixes.mosaic else 1) + bool(mixes.copy_paste) + bool(mixes.mixup)
            most = pictures_in_one * max(len(picture.labels) for picture in self.dataset.pictures)
            wanted = [_padded(target, most) for target in wanted]
        targets = [t | {"labels": t["labels"] + offset} for t in self.fabric.to_device(wanted)]
        return images, targets

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each loss on a batch, in training mode."""
        self.model.train()
        if self.recipe.train.freeze_batchnorm:
            freeze_batchnorm_statistics(self.model)
        losses: dict[str, Tensor] = self.model(*self.inputs(batch))
        return losses

    def learn(self, batch: Batch, *, hold_backbone: bool = False) -> dict[str, float]:
        """One step of the optimizer.

        Where memory does not suffice for the batch, it is computed in smaller parts from then on: the step stays
        the same, but that each part's losses are divided by what that part has to learn.

        Args:
            batch: this process's pictures of the step.
            hold_backbone: leave the backbone's weights as they are.

        Returns:
            Each loss, the mean over all processes.

        Raises:
            NotFinite: a loss or gradient is not finite.
            TrainingError: not even one picture fits into memory.

        """
        alone = self.fabric.world_size == 1
        if alone and self.body and self.body[0].requires_grad == hold_backbone:
            for parameter in self.body:
                parameter.requires_grad_(not hold_backbone)
        while True:
            try:
                losses = self._gradients(batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            self._smaller_parts(reason)
        told: Tensor = self.fabric.all_reduce(torch.stack(list(losses.values())), reduce_op="mean")  # type: ignore[assignment]
        values = dict(zip(losses, told.tolist(), strict=True))
        if not math.isfinite(sum(values.values())):
            raise NotFinite("the loss is not finite")
        if hold_backbone and not alone:
            for parameter in self.body:
                parameter.grad = None
        scaled = self.recipe.train.precision == "16-mixed"  # its scaler leaves such steps out by itself
        try:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.recipe.train.clip_norm, error_if_nonfinite=not scaled
            )
        except RuntimeError as error:
            raise NotFinite(f"the loss is finite, its gradient is not ({error})") from None
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Forward and backward, part by part; the losses, weighed by the parts' sizes."""
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        parts = _parts(batch, self.part)
        for number, part in enumerate(parts):
            weight = len(part.indices) / len(batch.indices)
            with self.fabric.no_backward_sync(self.model, enabled=number < len(parts) - 1):
                losses = {name: loss * weight for name, loss in self.losses(part).items()}
                self.fabric.backward(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + loss.detach()
        return total

    def _smaller_parts(self, reason: str) -> None:
        advice = "lower train.batch_size or input.size_hw"
        if self.part == 1:
            raise TrainingError(
                f"the memory is full with a single picture; {advice}, or take a smaller model ({reason})"
            )
        if self.fabric.world_size > 1:
            raise TrainingError(f"the memory is full with {self.part} pictures a process; {advice} ({reason})")
        was, self.part = self.part, math.ceil(self.part / 2)
        self.optimizer.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        hand_back_freed_memory()
        self.watcher.note(
            f"the memory is full with {was} pictures at once: going on with {self.part}, "
            f"{self._own_pictures} a step as before"
        )


def set_up(
    recipe: Recipe, watcher: Watcher, *, saved: Mapping[str, Any] | None = None, start: Path | None = None
) -> Setup:
    """Read and check the pictures, build the detector, load its weights. Nothing is written.

    Args:
        recipe: what to train, on what.
        watcher: told of what is there and what is done.
        saved: the content of a `last.ckpt` to go on from; None starts from the recipe's weights.
        start: a detector that has practised (`detection.training.pretrain`), instead of the recipe's weights.

    Raises:
        SwathError: weights that cannot be had, a checkpoint of another detector, or a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    load: Callable[..., Dataset] = partial(load_dataset, **recipe.data.reading)
    allow, settings = recipe.data.allow, recipe.train
    fabric = make_fabric(settings)
    if fabric.device.type == "xla" and (
        not recipe.model.preset.startswith("fcos_lite") or recipe.model.assign == "centre"
    ):
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
    network = model_from_recipe(recipe, len(dataset.class_names))
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
    starts_pretrained = recipe.model.weights != "none"
    if settings.freeze_stem and starts_pretrained:
        freeze_stem(network, recipe.model.preset)
    # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
    if fabric.device.type != "xla":
        network = network.to(memory_format=torch.channels_last)
    elif settings.freeze_batchnorm:
        norm_by_arithmetic(network)
    keep_freed_memory()
    body = body_parameters(network)
    groups = parameter_groups(
        network,
        learning_rate=settings.learning_rate,
        backbone_rate=settings.backbone_rate if starts_pretrained else 1.0,
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
    ready.part = _number(ready.recipe.train.batch_size)
    return ready


def fitting_batch_size(ready: Setup, *, most: int = 64, fill: float = 0.85) -> int:
    """How many pictures fit into the GPU's memory at once; 4 where there is no GPU whose memory could be asked for.

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


def _number(batch_size: int | str) -> int:
    assert isinstance(batch_size, int), "auto has been resolved"
    return batch_size


def _padded(target: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """A target of always so many boxes, for devices that compile anew for every shape; `real` says which count."""
    boxes, labels = target["boxes"], target["labels"]
    more = max(1, most) - len(labels)
    assert more >= 0, "mixes cannot bring more boxes than all of their pictures have"
    return {
        "boxes": torch.cat([boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(more, 4)]),
        "labels": torch.cat([labels, labels.new_zeros(more)]),
        "real": torch.arange(len(labels) + more) < len(labels),
    }


def _parts(batch: Batch, most: int) -> list[Batch]:
    """A batch in as few parts of at most so many pictures as will do, all of about one size."""
    count = len(batch.indices)
    edges = np.linspace(0, count, math.ceil(count / most) + 1).round().astype(int).tolist()
    return [
        Batch(batch.images[a:b], batch.targets[a:b], batch.indices[a:b])
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


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


def _with_negatives(dataset: Dataset, data: Data, watcher: Watcher) -> tuple[Dataset, int]:
    if data.negatives is None:
        return dataset, 0
    both, negatives = with_negatives(dataset, Path(data.negatives))
    if data.tiles is not None:
        photos = replace(both, pictures=both.pictures[len(dataset) :])
        tiles = _tiled("negatives", photos, data.tiles, watcher)
        first_id = 1 + max((picture.image_id for picture in dataset.pictures), default=0)
        more = tuple(replace(tile, image_id=first_id + number) for number, tile in enumerate(tiles.pictures))
        both, negatives = replace(dataset, pictures=(*dataset.pictures, *more)), len(more)
    watcher.note(
        f"negatives: {negatives} pictures, {data.negative_share:.0%} of what is learned from ({data.negatives})"
    )
    return both, negatives


def _tiled(name: str, photos: Dataset, tiles: Tiles, watcher: Watcher) -> Dataset:
    tiled, counts = tile_dataset(photos, **tiles.model_dump())
    for line in counts.lines():
        watcher.note(f"{name}: {line}")
    if name == "train" and tiled.box_count == 0:
        raise TrainingError(f"data.tiles: the tiles of {photos.name} keep no box; there is nothing to learn")
    return tiled
