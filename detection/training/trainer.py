"""One step of a training: a batch's losses, their gradients, and the weights updated by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from data.loading.loader import Batch
from detection.models.freezing import batchnorm_as_arithmetic, freeze_batchnorm_statistics
from detection.training.allocator import hand_back_freed_memory, keep_freed_memory
from detection.training.engine import is_out_of_memory
from detection.training.optimizer import OptimizerOptions, body_parameters, parameter_groups
from detection.training.watcher import NotFinite, TrainingError


@dataclass(frozen=True)
class StepOptions:
    """What one optimizer step is made of, beside the optimizer itself.

    Attributes:
        batch_size: images that each process computes at once, the micro-batch.
        gradient_accumulation: micro-batches whose gradients make one step.
        freeze_batchnorm: keep the batch norms' running statistics.
        compile: compile the backbone and neck with `torch.compile`.
        label_offset: label of the first class inside the detector: 1 where 0 is the background.
        padded_boxes: targets are padded to this many boxes, for devices that compile anew for every shape; None: not.

    """

    batch_size: int
    gradient_accumulation: int = 1
    freeze_batchnorm: bool = True
    compile: bool = False
    label_offset: int = 0
    padded_boxes: int | None = None


class Trainer:
    """A detector and its optimizer, on the device or devices that Fabric has launched.

    Attributes:
        network: the detector as it was built, whose weights are trained.
        model: the same, set up by Fabric; this is what is called.
        optimizer: AdamW; each of its groups has a `peak` learning rate.
        fabric: where it computes, and at which precision.
        learning_rate: the peak one of neck and head.
        body: the parameters of the backbone that are trained.
        micro_batch_size: images computed at once; smaller than `train.batch_size` after the memory was full.

    Example:
        >>> trainer = Trainer(network, fabric, OptimizerOptions(), StepOptions(batch_size=4), note=print)
        >>> losses = trainer.step(batch)

    Args:
        network: a detector on the CPU; parameters that do not require gradients stay as they are.
        fabric: launched.
        optimizer: learning rates and regularisation.
        options: what a step is made of.
        note: is called with a line where the trainer changes something by itself.

    """

    def __init__(
        self,
        network: nn.Module,
        fabric: Fabric,
        optimizer: OptimizerOptions,
        options: StepOptions,
        *,
        note: Callable[[str], None],
    ) -> None:
        self.fabric = fabric
        self.options = options
        self.micro_batch_size = options.batch_size
        self.learning_rate = optimizer.learning_rate
        self._clip_norm = optimizer.clip_norm
        self._note = note
        if fabric.device.type != "xla":
            # on CPU and on tensor cores alike, convolutions run faster with the channels innermost
            network = network.to(memory_format=torch.channels_last)
        elif options.freeze_batchnorm:
            batchnorm_as_arithmetic(network)
        keep_freed_memory()
        self.network = network
        self.body = body_parameters(network)
        groups = parameter_groups(network, optimizer)
        if options.compile:
            network.get_submodule("backbone").compile()
        self.model: Any
        self.optimizer: torch.optim.Optimizer
        self.model, self.optimizer = fabric.setup(network, torch.optim.AdamW(groups, lr=optimizer.learning_rate))

    def set_batch_size(self, batch_size: int) -> None:
        """Use another micro-batch from the next step on."""
        self.options = replace(self.options, batch_size=batch_size)
        self.micro_batch_size = batch_size

    @property
    def images_per_step(self) -> int:
        """Images of this process in one optimizer step."""
        return self.options.batch_size * self.options.gradient_accumulation

    @property
    def global_batch_size(self) -> int:
        """Images of all processes together in one optimizer step."""
        return self.images_per_step * int(self.fabric.world_size)

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and loss scale, as `load_state` takes them."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state` gave.

        Raises:
            RuntimeError, ValueError: it is another detector's.

        """
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.fabric.strategy.precision.load_state_dict(saved["precision"])

    def inputs(self, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """A batch as the detector takes it: images float (3, H, W) in 0..1, targets with its own labels."""
        images = list(self.fabric.to_device(batch.images).float() / 255)
        targets = batch.targets
        if self.options.padded_boxes is not None:
            targets = [_padded(target, self.options.padded_boxes) for target in targets]
        offset = self.options.label_offset
        return images, [t | {"labels": t["labels"] + offset} for t in self.fabric.to_device(targets)]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Each loss on a batch by name, a scalar, in training mode."""
        self.model.train()
        if self.options.freeze_batchnorm:
            freeze_batchnorm_statistics(self.model)
        losses: dict[str, Tensor] = self.model(*self.inputs(batch))
        return losses

    def step(self, batch: Batch, *, freeze_backbone: bool = False) -> dict[str, float]:
        """Take one optimizer step.

        Where the memory does not suffice for a micro-batch, smaller ones are used from then on: the step stays the
        same, except that each micro-batch's losses are normalised by the objects in it alone.

        Args:
            batch: this process's images of the step.
            freeze_backbone: leave the backbone's weights as they are.

        Returns:
            Each loss by name, the mean over all processes.

        Raises:
            NotFinite: a loss or gradient is not finite; the weights are as before.
            TrainingError: not even one image fits into memory.

        """
        single = self.fabric.world_size == 1
        if single and self.body and self.body[0].requires_grad == freeze_backbone:
            for parameter in self.body:
                parameter.requires_grad_(not freeze_backbone)
        while True:
            try:
                losses = self._backward(batch)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            self._halve_micro_batch(reason)
        means: Tensor = self.fabric.all_reduce(torch.stack(list(losses.values())), reduce_op="mean")  # type: ignore[assignment]
        values = dict(zip(losses, means.tolist(), strict=True))
        if not math.isfinite(sum(values.values())):
            raise NotFinite("the loss is not finite")
        if freeze_backbone and not single:
            # with requires_grad switched off, DistributedDataParallel would wait for these gradients
            for parameter in self.body:
                parameter.grad = None
        self._clip_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return values

    def _clip_gradients(self) -> None:
        scaled = self.fabric.strategy.precision.precision == "16-mixed"  # its scaler skips such steps by itself
        try:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self._clip_norm, error_if_nonfinite=not scaled
            )
        except RuntimeError as error:
            raise NotFinite(f"the loss is finite, its gradient is not ({error})") from None

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """Forward and backward, one micro-batch after the other; the losses, weighted by the micro-batches' sizes."""
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        micro_batches = split_batch(batch, self.micro_batch_size)
        for place, micro_batch in enumerate(micro_batches):
            weight = len(micro_batch.indices) / len(batch.indices)
            with self.fabric.no_backward_sync(self.model, enabled=place < len(micro_batches) - 1):
                losses = {name: loss * weight for name, loss in self.losses(micro_batch).items()}
                self.fabric.backward(torch.stack(list(losses.values())).sum())
            for name, loss in losses.items():
                total[name] = total.get(name, 0.0) + loss.detach()
        return total

    def _halve_micro_batch(self, reason: str) -> None:
        advice = "lower train.batch_size or input.size_hw"
        if self.micro_batch_size == 1:
            raise TrainingError(f"out of memory with a single image; {advice}, or take a smaller model ({reason})")
        if self.fabric.world_size > 1:
            raise TrainingError(
                f"out of memory with {self.micro_batch_size} images in each process; {advice} ({reason})"
            )
        was, self.micro_batch_size = self.micro_batch_size, math.ceil(self.micro_batch_size / 2)
        self.optimizer.zero_grad(set_to_none=True)
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        hand_back_freed_memory()
        self._note(
            f"out of memory with {was} images at once: continuing with micro-batches of {self.micro_batch_size}, "
            f"{self.images_per_step} images per step as before"
        )


def split_batch(batch: Batch, most: int) -> list[Batch]:
    """A batch as micro-batches of about one size, as few as there can be with at most `most` images each."""
    count = len(batch.indices)
    edges = np.linspace(0, count, math.ceil(count / most) + 1).round().astype(int).tolist()
    return [
        Batch(batch.images[a:b], batch.targets[a:b], batch.indices[a:b])
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]


def _padded(target: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """A target padded to `count` boxes; `real`, bool (count,), says which of them are there."""
    boxes, labels = target["boxes"], target["labels"]
    more = max(1, count) - len(labels)
    assert more >= 0, "mixes cannot bring more boxes than all of their images have"
    return {
        "boxes": torch.cat([boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(more, 4)]),
        "labels": torch.cat([labels, labels.new_zeros(more)]),
        "real": torch.arange(len(labels) + more) < len(labels),
    }
