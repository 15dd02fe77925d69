"""Writes a dataset of labelled images of many rendered fields, in COCO format."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.synthetic.annotations import annotation_entries, image_entry, write_annotations
from data.synthetic.scene import FIELDS_PER_SEED, Field

_BARE_SHARE = 0.04
_IMAGES_PER_FIELD = 8
_SPACING_M = 0.55
_JPEG_QUALITY = 95
# Below this, starting processes costs more than it saves.
_INLINE_IMAGES = 6


@dataclass(frozen=True)
class _Task:
    """The images of one field, for one process."""

    images_dir: Path
    field_seed: int
    numbers: tuple[int, ...]
    bare: tuple[bool, ...]
    size_hw: tuple[int, int]
    seed: int


_Entries = list[tuple[dict[str, Any], list[dict[str, Any]]]]


def _render(task: _Task) -> _Entries:
    """Render and write the images of one field."""
    rng = np.random.default_rng((task.seed, task.field_seed, 6))
    length_m = _SPACING_M * len(task.numbers) + 0.08
    planted = Field(task.field_seed, length_m=length_m)
    ground: Field | None = None
    entries: _Entries = []
    for order, (number, bare) in enumerate(zip(task.numbers, task.bare, strict=True)):
        if bare and ground is None:
            ground = Field(task.field_seed, length_m=length_m, only=())
        field = ground if bare and ground is not None else planted
        x_m = 0.04 + _SPACING_M * (order + 0.5) + float(rng.uniform(-0.02, 0.02))
        speed_m_s = float(rng.uniform(0.0, 1.6))
        view = field.view(x_m, size_hw=task.size_hw, seed=number, speed_m_s=speed_m_s)
        name = f"{number:06d}.jpg"
        path = task.images_dir / name
        if not cv2.imwrite(str(path), view.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            raise OSError(f"{path}: the image could not be written")
        entries.append((image_entry(number + 1, name, view, field.attributes), annotation_entries(number + 1, view)))
    return entries


def _one_thread() -> None:
    cv2.setNumThreads(1)


def render_dataset(
    out_dir: Path,
    *,
    images: int,
    size_hw: tuple[int, int] = (480, 640),
    seed: int,
    fields: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a dataset: `images/000000.jpg` and so on, and `annotations.json` in COCO format.

    Each image's `attributes` name its field, light, crop stage and soil; about one image in 25
    (of ten or more, at least one) shows bare soil. `annotations.json` is written last and atomically,
    and an old one is removed first: if it exists, the dataset is complete. The same arguments give the
    same files.

    Example:
        >>> render_dataset(Path("field"), images=40, seed=0)

    Args:
        out_dir: created if missing.
        images: how many, 1 or more.
        size_hw: of each, pixels.
        seed: of all randomness; datasets of different seeds share no field.
        fields: how many fields they come from; None: one for every eight images, at least three.
        progress: called with (done, images) as fields are finished.

    Returns:
        The path of `annotations.json`.

    Raises:
        ValueError: a count below 1, or more fields than a seed has.
        OSError: an image cannot be written.

    """
    if images < 1 or (fields is not None and fields < 1):
        raise ValueError(f"images and fields must be 1 or more, got {images} and {fields}")
    count = min(images, fields if fields is not None else max(3, -(-images // _IMAGES_PER_FIELD)))
    if count >= FIELDS_PER_SEED:
        raise ValueError(f"one seed has fewer than {FIELDS_PER_SEED} fields, asked for {count}")
    images_dir = Path(out_dir) / "images"
    images_dir.mkdir(parents=True, exist_ok=True)
    target = Path(out_dir) / "annotations.json"
    target.unlink(missing_ok=True)

    rng = np.random.default_rng((seed, 7))
    bare = np.zeros(images, bool)
    # Every dataset that is not tiny has one: training must handle images without boxes.
    empty = max(round(_BARE_SHARE * images), 1 if images >= 10 else 0)
    bare[rng.choice(images, empty, replace=False)] = True
    tasks = []
    for index, numbers in enumerate(np.array_split(np.arange(images), count)):
        kept = tuple(int(n) for n in numbers)
        tasks.append(
            _Task(images_dir, seed * FIELDS_PER_SEED + index, kept, tuple(bool(bare[n]) for n in kept), size_hw, seed)
        )
    finished: list[_Entries] = [[] for _ in tasks]
    done = 0

    def collect(index: int, entries: _Entries) -> None:
        nonlocal done
        finished[index] = entries
        done += len(entries)
        if progress is not None:
            progress(done, images)

    workers = min(os.cpu_count() or 1, len(tasks))
    if workers == 1 or images <= _INLINE_IMAGES:
        for index, task in enumerate(tasks):
            collect(index, _render(task))
    else:
        # Spawned, not forked: the caller may hold threads (torch, a progress bar) that a fork would break.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
        try:
            futures = {pool.submit(_render, task): index for index, task in enumerate(tasks)}
            for future in as_completed(futures):
                collect(futures[future], future.result())
        finally:
            pool.shutdown(cancel_futures=True)
    entries = [entry for part in finished for entry in part]
    annotations = [annotation for _, part in entries for annotation in part]
    about = f"Swath rendered field: {images} images of {count} fields, seed {seed}"
    write_annotations(target, [image for image, _ in entries], annotations, about)
    return target
