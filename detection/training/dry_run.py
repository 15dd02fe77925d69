"""`swath train --dry-run`: what a training would be, measured on two real steps, before hours go into it."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data import Dataset
from data.loading.loader import Batch
from detection.models.checkpoint import write_whole
from detection.models.torch_detector import TorchDetector
from detection.recipe.schema import Recipe
from detection.training.setup import set_up
from detection.training.steps import Setup
from detection.training.synthetic_pretraining import practised_before
from detection.training.visualisation import labelled, write_png
from detection.training.watcher import Watcher

IMAGE = "dry_run.png"
_SHOWN = 9  # images of the batch that are drawn
_CELL_PX = 640  # their longest side
_TIMED_STEPS = 2
_TIMED_IMAGES = 2


@dataclass(frozen=True)
class Part:
    """Parameters of a part of the detector: all, and those that learn."""

    name: str
    total: int
    trainable: int


@dataclass(frozen=True)
class Memory:
    """Bytes that a step takes, besides torch itself: what must be there at once at its fullest."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    batch: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.batch


@dataclass(frozen=True)
class Counted:
    """Images of a dataset, those without a box, and by class the images that show it and its boxes."""

    images: int
    empty: int
    per_class: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class DryRun:
    """What a training would be.

    Attributes:
        recipe: resolved.
        device: where it computes, in words.
        weights: where it starts from, in words.
        parts: of the detector.
        gflops: of one image at the input size, forward; a multiplication and its addition are two.
        memory: of a training step.
        train, val: what is learned from and scored on; `val` is None without a validation.
        images_a_step: of all processes together.
        steps: of the whole run, were there no budget of minutes.
        load_s, compute_s: to prepare a batch in one process (decoding included), and to learn it.
        step_s: of a step: loading beside computing where there are worker processes.
        validation_s: of one validation; 0 without.
        run_s: of the whole run, validations included; the budget's where that ends it.
        ended_by_budget: whether `train.max_minutes` ends it.
        image: where the first batch is drawn.

    """

    recipe: Recipe
    device: str
    weights: str
    parts: tuple[Part, ...]
    gflops: float
    memory: Memory
    train: Counted
    val: Counted | None
    images_a_step: int
    steps: int
    load_s: float
    compute_s: float
    step_s: float
    validation_s: float
    run_s: float
    ended_by_budget: bool
    image: Path


def dry_run(recipe: Recipe, *, out: Path | None, watcher: Watcher) -> DryRun:
    """Set a training up, take a few steps, throw them away, and say what was seen.

    Args:
        recipe: of the training.
        out: folder that `dry_run.png` is written to; None: a new one among the system's temporary files, so
            that nothing is overwritten. No other file is written.
        watcher: told of what takes long.

    Raises:
        SwathError: weights that cannot be had, a dataset without boxes.
        DataError: a dataset that cannot be used.

    """
    ready = set_up(recipe, watcher, start=practised_before(recipe))
    recipe, settings, size_hw = ready.recipe, ready.recipe.train, recipe.input.size_hw
    # in this process and without a cache: nothing is left on the disk, and loading is timed by itself
    batches = ready.batches(1 + _TIMED_STEPS, workers=0, cache="none")
    batch = next(batches)
    image = _drawn(ready, batch)
    watcher.note("one step for the memory, two for the time")
    activations = saved_bytes(lambda: ready.losses(batch), ready.network)
    ready.learn(batch)
    load_s, compute_s = _timed(ready, batches)

    steps = math.ceil(settings.epochs * len(ready.dataset) / ready.images_a_step)
    step_s = max(compute_s, load_s / settings.workers) if settings.workers else compute_s + load_s
    validation_s, validations = 0.0, 0
    if ready.validation is not None:
        validation_s = len(ready.validation) * _scoring_s(ready, ready.validation)
        validations = math.ceil(settings.epochs / settings.validate_every)
    run_s = steps * step_s + validations * validation_s
    budget_s = math.inf if settings.max_minutes is None else settings.max_minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="swath-")) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / IMAGE, lambda path: path.write_bytes(write_png(image)))
    return DryRun(
        recipe=recipe,
        device=_device(ready.fabric.device),
        weights=str(ready.report),
        parts=parts(ready.network),
        gflops=gflops(ready.network, size_hw, ready.fabric.device),
        memory=_memory(ready, batch, activations),
        train=count(ready.dataset),
        val=None if ready.validation is None else count(ready.validation),
        images_a_step=ready.images_a_step,
        steps=steps,
        load_s=load_s,
        compute_s=compute_s,
        step_s=step_s,
        validation_s=validation_s,
        run_s=min(run_s, budget_s),
        ended_by_budget=run_s > budget_s,
        image=folder / IMAGE,
    )


def parts(network: nn.Module) -> tuple[Part, ...]:
    """The parameters by part of the detector; the backbone by its own parts."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in network.named_parameters():
        first, second = (*name.split("."), "")[:2]
        part = f"{first}.{second}" if first == "backbone" else first
        total[part] += parameter.numel()
        trainable[part] += parameter.numel() if parameter.requires_grad else 0
    return tuple(Part(name, total[name], trainable[name]) for name in total)


def gflops(network: nn.Module, size_hw: tuple[int, int], device: torch.device) -> float:
    """10^9 floating-point operations of one grey image, forward, as torch counts them; post-processing is free."""
    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network([torch.full((3, *size_hw), 0.45, device=device)])
    network.train(was_training)
    return float(counter.get_total_flops()) / 1e9


def saved_bytes(forward: Callable[[], object], network: nn.Module) -> int:
    """Bytes that `forward` keeps for its backward pass, each storage once, the network's own tensors not."""
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def count(dataset: Dataset) -> Counted:
    """Images and boxes of a dataset by class; crowds are neither learned nor counted."""
    images: Counter[int] = Counter()
    boxes: Counter[int] = Counter()
    for image in dataset.images:
        labels = image.labels[~image.iscrowd].tolist()
        boxes.update(labels)
        images.update(set(labels))
    empty = sum(1 for image in dataset.images if image.iscrowd.all())
    per_class = {name: (images[label], boxes[label]) for label, name in enumerate(dataset.class_names)}
    return Counted(len(dataset), empty, per_class)


def _memory(ready: Setup, batch: Batch, activations: int) -> Memory:
    tensors = (*ready.network.parameters(), *ready.network.buffers())
    # AdamW has made its state in the first step
    state = (value for entry in ready.optimizer.state.values() for value in entry.values())
    return Memory(
        weights=sum(t.numel() * t.element_size() for t in tensors),
        gradients=sum(p.numel() * p.element_size() for p in ready.network.parameters() if p.requires_grad),
        optimizer=sum(v.numel() * v.element_size() for v in state if isinstance(v, Tensor)),
        activations=activations,
        batch=batch.images.numel() * 4,  # as float
    )


def _timed(ready: Setup, batches: Iterator[Batch]) -> tuple[float, float]:
    """Seconds to load a batch, and to learn it: the mean of the steps that are left in `batches`."""
    load_s = compute_s = 0.0
    for _ in range(_TIMED_STEPS):
        asked = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        ready.learn(batch)
        _wait_for(ready.fabric.device)
        load_s += loaded - asked
        compute_s += time.perf_counter() - loaded
    return load_s / _TIMED_STEPS, compute_s / _TIMED_STEPS


def _scoring_s(ready: Setup, validation: Dataset) -> float:
    """Seconds to read and score an image."""
    ready.model.eval()
    preset, size_hw = ready.recipe.model.preset, ready.recipe.input.size_hw
    detector = TorchDetector(ready.model, preset, ready.dataset.class_names, size_hw)
    images = validation.images[: 1 + _TIMED_IMAGES]
    detector(images[0].read())  # the first takes longer
    began = time.perf_counter()
    for image in images:
        detector(image.read())
    return (time.perf_counter() - began) / len(images)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def _drawn(ready: Setup, batch: Batch) -> NDArray[np.uint8]:
    """The batch as it leaves the detector's own transform, its normalisation undone: uint8 (H, W, 3) BGR."""
    transform = ready.network.transform
    assert isinstance(transform, nn.Module)
    with torch.no_grad():
        normalised, targets = transform(*ready.inputs(batch))
    mean, std = (torch.tensor(v, device=normalised.tensors.device).view(3, 1, 1) for v in _normalisation(transform))
    pixels = (normalised.tensors.float() * std + mean).clamp(0, 1) * 255
    rgb = pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy()[:_SHOWN]
    offset = ready.recipe.detector.label_offset
    scale = min(1.0, _CELL_PX / max(rgb.shape[1:3]))
    images = [cv2.resize(i[..., ::-1].copy(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for i in rgb]
    height, width = ready.recipe.input.size_hw
    shown = f"{len(rgb)} of {len(batch.indices)} images" if len(rgb) < len(batch.indices) else f"{len(rgb)} images"
    return labelled(
        [np.asarray(image, np.uint8) for image in images],
        [t["boxes"].cpu().numpy() * np.float32(scale) for t in targets],
        [t["labels"].cpu().numpy() - offset for t in targets],
        ready.dataset.class_names,
        caption=f"the first batch as the network sees it: {shown}, {height} x {width} px",
    )


def _normalisation(transform: nn.Module) -> tuple[list[float], list[float]]:
    return list(transform.image_mean), list(transform.image_std)  # type: ignore[arg-type]
