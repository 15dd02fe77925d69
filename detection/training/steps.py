"""One step of a training: its images, its losses, and the weights moved along them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from data import Dataset
from data.augmentation.augment import Augment
from data.loading.cache import CacheKind, CacheOptions
from data.loading.loader import Batch, LoadingOptions, training_batches
from data.loading.sampling import SamplingOptions, image_weights
from detection.models.freezing import freeze_batchnorm_statistics
from detection.models.weights import WeightsReport
from detection.recipe.schema import Recipe
from detection.runtime.letterbox import letterbox
from detection.training.allocator import hand_back_freed_memory
from detection.training.engine import is_out_of_memory
from detection.training.watcher import NotFinite, TrainingError, Watcher


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
        fingerprint: of the images to learn from as they are, in tiles or not: they can be found again.
        report: what became of every tensor of the first weights; None where a run goes on.
        licence: of the first weights.
        watcher: who looks on; nobody, in all processes but the first.
        body: what of the backbone learns.
        negatives: how many of the images are negatives.
        part: images computed at once; smaller than `train.batch_size` after the memory was full.

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
    def images_a_step(self) -> int:
        """Of all processes together."""
        return self._own_images * int(self.fabric.world_size)

    @property
    def _own_images(self) -> int:
        settings = self.recipe.train
        return number(settings.batch_size) * settings.accumulate

    def batches(
        self,
        steps: int,
        *,
        first_step: int = 0,
        workers: int,
        cache: CacheKind,
        mixing: Callable[[int], bool] | None = None,
    ) -> Iterator[Batch]:
        """Images of this process for every step from `first_step` on; `mixing` as the loader takes it."""
        recipe, size_hw = self.recipe, self.recipe.input.size_hw
        augment = Augment(recipe.augment, size_hw=size_hw)
        weights = image_weights(
            self.dataset,
            balance=recipe.data.balance,
            negatives=self.negatives,
            share=recipe.data.negative_share,
        )
        return training_batches(
            self.dataset,
            SamplingOptions(
                batch_size=self._own_images,
                seed=recipe.train.seed,
                steps=steps,
                first_step=first_step,
                weights=weights,
                rank=self.fabric.global_rank,
                world=self.fabric.world_size,
                mixing=mixing,
            ),
            fit=partial(fit_to_input, size_hw=size_hw),
            augment=augment,
            scale_range=augment.scale_range,
            loading=LoadingOptions(
                workers=workers,
                cache=CacheOptions(cache, recipe.train.cache_mb),
                pin_memory=self.fabric.device.type == "cuda",
            ),
            note=self.watcher.note,
        )

    def inputs(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch as the detector takes it: images float (3, H, W) in 0..1, targets in its own numbering."""
        offset = self.recipe.detector.label_offset
        images = list(self.fabric.to_device(batch.images).float() / 255)
        wanted = batch.targets
        if self.fabric.device.type == "xla":
            most = self.recipe.augment.images_in_one * max(len(image.labels) for image in self.dataset.images)
            wanted = [_padded(target, most) for target in wanted]
        targets = [t | {"labels": t["labels"] + offset} for t in self.fabric.to_device(wanted)]
        return images, targets

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each loss on a batch, in training mode."""
        self.model.train()
        if self.recipe.freezes_batchnorm:
            freeze_batchnorm_statistics(self.model)
        losses: dict[str, Tensor] = self.model(*self.inputs(batch))
        return losses

    def learn(self, batch: Batch, *, hold_backbone: bool = False) -> dict[str, float]:
        """One step of the optimizer.

        Where memory does not suffice for the batch, it is computed in smaller parts from then on: the step stays
        the same, but that each part's losses are divided by what that part has to learn.

        Args:
            batch: this process's images of the step.
            hold_backbone: leave the backbone's weights as they are.

        Returns:
            Each loss, the mean over all processes.

        Raises:
            NotFinite: a loss or gradient is not finite.
            TrainingError: not even one image fits into memory.

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
        for place, part in enumerate(parts):
            weight = len(part.indices) / len(batch.indices)
            with self.fabric.no_backward_sync(self.model, enabled=place < len(parts) - 1):
                losses = {name: loss * weight for name, loss in self.losses(part).items()}
                self.fabric.backward(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + loss.detach()
        return total

    def _smaller_parts(self, reason: str) -> None:
        advice = "lower train.batch_size or input.size_hw"
        if self.part == 1:
            raise TrainingError(
                f"the memory is full with a single image; {advice}, or take a smaller model ({reason})"
            )
        if self.fabric.world_size > 1:
            raise TrainingError(f"the memory is full with {self.part} images a process; {advice} ({reason})")
        was, self.part = self.part, math.ceil(self.part / 2)
        self.optimizer.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        hand_back_freed_memory()
        self.watcher.note(
            f"the memory is full with {was} images at once: going on with {self.part}, "
            f"{self._own_images} a step as before"
        )


def number(batch_size: int | str) -> int:
    """A recipe's `train.batch_size` once `auto` has been found out."""
    assert isinstance(batch_size, int), "auto has been resolved"
    return batch_size


def _padded(target: Mapping[str, Tensor], most: int) -> dict[str, Tensor]:
    """A target of always so many boxes, for devices that compile anew for every shape; `real` says which count."""
    boxes, labels = target["boxes"], target["labels"]
    more = max(1, most) - len(labels)
    assert more >= 0, "mixes cannot bring more boxes than all of their images have"
    return {
        "boxes": torch.cat([boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(more, 4)]),
        "labels": torch.cat([labels, labels.new_zeros(more)]),
        "real": torch.arange(len(labels) + more) < len(labels),
    }


def _parts(batch: Batch, most: int) -> list[Batch]:
    """A batch in as few parts of at most so many images as will do, all of about one size."""
    count = len(batch.indices)
    edges = np.linspace(0, count, math.ceil(count / most) + 1).round().astype(int).tolist()
    return [
        Batch(batch.images[a:b], batch.targets[a:b], batch.indices[a:b])
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


def fit_to_input(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The letterbox as the loader takes it: an image BGR and its boxes -> the input RGB and the boxes in it."""
    canvas, place = letterbox(image_bgr, size_hw)
    return canvas, place.to_input(boxes_xyxy)
