"""A dry run: what a training would take, measured on a few real steps, before hours go into it."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data import Dataset
from data.loading.cache import CacheOptions
from data.loading.loader import Batch
from detection.models.checkpoint import write_whole
from detection.models.torch_detector import TorchDetector
from detection.training.batches import BatchSource
from detection.training.fit_options import FitOptions
from detection.training.trainer import Trainer
from detection.training.validation import Validator
from detection.training.visualisation import draw_labels, write_png
from detection.training.watcher import Watcher

IMAGE = "dry_run.png"
_SHOWN = 9  # images of the batch in the visualisation
_CELL_PX = 640  # their longest side
_TIMED_STEPS = 2
_TIMED_IMAGES = 2


@dataclass(frozen=True)
class Part:
    """Number of parameters of a part of the detector: all, and those that are trained."""

    name: str
    total: int
    trainable: int


@dataclass(frozen=True)
class Memory:
    """Peak memory of a step in bytes, besides torch itself."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    batch: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.batch


@dataclass(frozen=True)
class DatasetCounts:
    """Number of images, of images without a box, and for each class of images with it and of its boxes."""

    images: int
    empty: int
    per_class: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class DryRun:
    """What a training would take.

    Attributes:
        device: where it computes, in words.
        parts: of the detector.
        gflops: of one image at the input size, forward; a multiplication and its addition count as two.
        memory: peak of a step.
        train, val: counts of the training and validation images; `val` is None without a validation.
        global_batch_size: images of all processes together in one step.
        steps: of the whole run, without a budget of minutes.
        load_s, compute_s: seconds to prepare a batch in one process (decoding included), and to take its step.
        step_s: seconds of a step: loading overlaps computing where there are worker processes.
        validation_s: seconds of one validation; 0 without.
        run_s: seconds of the whole run, validations included, or the budget where that ends it.
        ended_by_budget: whether `max_minutes` ends the run.
        image: path of the visualisation of the first batch.

    """

    device: str
    parts: tuple[Part, ...]
    gflops: float
    memory: Memory
    train: DatasetCounts
    val: DatasetCounts | None
    global_batch_size: int
    steps: int
    load_s: float
    compute_s: float
    step_s: float
    validation_s: float
    run_s: float
    ended_by_budget: bool
    image: Path


def dry_run(
    trainer: Trainer,
    source: BatchSource,
    validator: Validator | None,
    *,
    options: FitOptions,
    out: Path | None,
    watcher: Watcher,
) -> DryRun:
    """Take a few steps, discard them, and estimate the whole run.

    Args:
        trainer: before its first step; its weights are changed.
        source: of the batches.
        validator: None without a validation.
        options: how long the run would last.
        out: folder for `dry_run.png`, the only file that is written; None: a new temporary folder.
        watcher: is notified of what takes long.

    Raises:
        DataError: an image cannot be read.

    """
    # in this process and without a cache: nothing is left on the disk, and loading is timed by itself
    alone = replace(source, loading=replace(source.loading, workers=0, cache=CacheOptions("none")))
    batches = alone.batches(trainer.fabric, trainer.images_per_step, 1 + _TIMED_STEPS)
    batch = next(batches)
    image = _visualisation(trainer, source, batch)
    watcher.note("one step to measure the memory, two for the time")
    activations = saved_bytes(lambda: trainer.losses(batch), trainer.network)
    trainer.step(batch)
    load_s, compute_s = _timed(trainer, batches)

    workers, dataset = source.loading.workers, source.data.train
    steps = math.ceil(options.epochs * len(dataset) / trainer.global_batch_size)
    step_s = max(compute_s, load_s / workers) if workers else compute_s + load_s
    validation_s, validations = 0.0, 0
    if validator is not None:
        validation_s = len(validator.dataset) * _scoring_s(trainer, validator)
        validations = math.ceil(options.epochs / options.validate_every)
    run_s = steps * step_s + validations * validation_s
    budget_s = math.inf if options.max_minutes is None else options.max_minutes * 60
    folder = Path(tempfile.mkdtemp(prefix="swath-")) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / IMAGE, lambda path: path.write_bytes(write_png(image)))
    return DryRun(
        device=_device(trainer.fabric.device),
        parts=parts(trainer.network),
        gflops=gflops(trainer.network, source.size_hw, trainer.fabric.device),
        memory=_memory(trainer, batch, activations),
        train=count(dataset),
        val=None if validator is None else count(validator.dataset),
        global_batch_size=trainer.global_batch_size,
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
    """The number of parameters by part of the detector; the backbone is split into its own parts."""
    total: Counter[str] = Counter()
    trainable: Counter[str] = Counter()
    for name, parameter in network.named_parameters():
        first, second = (*name.split("."), "")[:2]
        part = f"{first}.{second}" if first == "backbone" else first
        total[part] += parameter.numel()
        trainable[part] += parameter.numel() if parameter.requires_grad else 0
    return tuple(Part(name, total[name], trainable[name]) for name in total)


def gflops(network: nn.Module, size_hw: tuple[int, int], device: torch.device) -> float:
    """10^9 floating-point operations of one forward pass, as torch counts them, without postprocessing."""
    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network([torch.full((3, *size_hw), 0.45, device=device)])
    network.train(was_training)
    return float(counter.get_total_flops()) / 1e9


def saved_bytes(forward: Callable[[], object], network: nn.Module) -> int:
    """Bytes that `forward` keeps for its backward pass: each storage once, without the network's own tensors."""
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


def count(dataset: Dataset) -> DatasetCounts:
    """Count images and boxes by class; crowd boxes are neither learned nor counted."""
    images: Counter[int] = Counter()
    boxes: Counter[int] = Counter()
    for image in dataset.images:
        labels = image.labels[~image.iscrowd].tolist()
        boxes.update(labels)
        images.update(set(labels))
    empty = sum(1 for image in dataset.images if image.iscrowd.all())
    per_class = {name: (images[label], boxes[label]) for label, name in enumerate(dataset.class_names)}
    return DatasetCounts(len(dataset), empty, per_class)


def _memory(trainer: Trainer, batch: Batch, activations: int) -> Memory:
    tensors = (*trainer.network.parameters(), *trainer.network.buffers())
    # AdamW has made its state in the first step
    state = (value for entry in trainer.optimizer.state.values() for value in entry.values())
    return Memory(
        weights=sum(t.numel() * t.element_size() for t in tensors),
        gradients=sum(p.numel() * p.element_size() for p in trainer.network.parameters() if p.requires_grad),
        optimizer=sum(v.numel() * v.element_size() for v in state if isinstance(v, Tensor)),
        activations=activations,
        batch=batch.images.numel() * 4,  # as float
    )


def _timed(trainer: Trainer, batches: Iterator[Batch]) -> tuple[float, float]:
    """Seconds to load a batch and to take its step: the mean of the steps that are left in `batches`."""
    load_s = compute_s = 0.0
    for _ in range(_TIMED_STEPS):
        began = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        trainer.step(batch)
        _wait_for(trainer.fabric.device)
        load_s += loaded - began
        compute_s += time.perf_counter() - loaded
    return load_s / _TIMED_STEPS, compute_s / _TIMED_STEPS


def _scoring_s(trainer: Trainer, validator: Validator) -> float:
    """Seconds to read and score an image."""
    trainer.model.eval()
    detector = TorchDetector(trainer.model, validator.preset, validator.class_names, validator.size_hw)
    images = validator.dataset.images[: 1 + _TIMED_IMAGES]
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


def _visualisation(trainer: Trainer, source: BatchSource, batch: Batch) -> NDArray[np.uint8]:
    """The batch as it leaves the detector's own transform, its normalisation undone: uint8 (H, W, 3) BGR."""
    transform = trainer.network.transform
    assert isinstance(transform, nn.Module)
    with torch.no_grad():
        normalised, targets = transform(*trainer.inputs(batch))
    mean, std = (torch.tensor(v, device=normalised.tensors.device).view(3, 1, 1) for v in _normalisation(transform))
    pixels = (normalised.tensors.float() * std + mean).clamp(0, 1) * 255
    rgb = pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy()[:_SHOWN]
    offset = trainer.options.label_offset
    scale = min(1.0, _CELL_PX / max(rgb.shape[1:3]))
    images = [cv2.resize(i[..., ::-1].copy(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for i in rgb]
    height, width = source.size_hw
    shown = f"{len(rgb)} of {len(batch.indices)} images" if len(rgb) < len(batch.indices) else f"{len(rgb)} images"
    return draw_labels(
        [np.asarray(image, np.uint8) for image in images],
        [t["boxes"].cpu().numpy() * np.float32(scale) for t in targets],
        [t["labels"].cpu().numpy() - offset for t in targets],
        source.data.class_names,
        caption=f"the first batch as the network sees it: {shown}, {height} x {width} px",
    )


def _normalisation(transform: nn.Module) -> tuple[list[float], list[float]]:
    return list(transform.image_mean), list(transform.image_std)  # type: ignore[arg-type]
