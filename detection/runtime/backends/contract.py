"""`Backend`, the interface that `Detector` uses, and the signature of an end-to-end graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.runtime.errors import ModelFileError
from detection.runtime.metadata import ModelMetadata

INPUT = "images"
OUTPUTS = {"boxes": ("float32", 3), "scores": ("float32", 2), "labels": ("int64", 2)}
"""dtype and number of axes of the outputs of an end-to-end graph, by name."""


@dataclass(frozen=True, eq=False)
class Raw:
    """Outputs of an end-to-end graph for N images: K rows each, padded.

    Attributes:
        boxes: float32 (N, K, 4), xyxy in pixels of the network's input.
        scores: float32 (N, K), sorted, 0 where empty.
        labels: int64 (N, K), -1 where empty.

    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)


_ABOVE_ONE = 1.001
"""A score of 1 may be a little more after a lower precision."""


def output_fault(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], labels: NDArray[np.int64], classes: int
) -> str:
    """What is wrong with the rows of one image; empty where nothing is. Takes microseconds.

    Args:
        boxes: float32 (K, 4).
        scores: float32 (K,).
        labels: int64 (K,).
        classes: how many the model file names.

    """
    if not scores.size:
        return ""
    lowest, highest = scores.min(), scores.max()  # NaN where one of them is
    if not (np.isfinite(lowest) and np.isfinite(highest) and np.isfinite(boxes).all()):
        return "the model gave numbers that are not finite (NaN or infinite)"
    if lowest < 0 or highest > _ABOVE_ONE:
        return f"the model gave a score of {highest if highest > _ABOVE_ONE else lowest:g}, outside 0 to 1"
    if labels.min() < -1 or labels.max() >= classes:
        label = labels.max() if labels.max() >= classes else labels.min()
        return f"the model gave label {label} but names {classes} classes"
    return ""


def malformed(raw: Raw, classes: int) -> str:
    """What breaks the contract of an end-to-end graph in the outputs for one or more images; empty: nothing."""
    count, rows = raw.scores.shape if raw.scores.ndim == 2 else (-1, -1)
    if raw.boxes.shape != (count, rows, 4) or raw.labels.shape != (count, rows):
        return f"boxes {raw.boxes.shape}, scores {raw.scores.shape} and labels {raw.labels.shape} do not go together"
    for boxes, scores, labels in zip(raw.boxes, raw.scores, raw.labels, strict=True):
        if fault := output_fault(boxes, scores, labels, classes):
            return fault
        empty = labels < 0
        if (scores[:-1] < scores[1:]).any():
            return "scores are not sorted"
        if (scores[empty] != 0).any() or (boxes[empty] != 0).any() or (scores[~empty] <= 0).any():
            return "rows without a detection are not 0, 0 and -1"
    return ""


class Backend(Protocol):
    """An end-to-end graph, ready to run.

    Attributes:
        name: the library and its version.
        providers: the live providers, in order of preference.
        runs_on: library, version and device, for users.

    """

    name: str
    providers: tuple[str, ...]
    runs_on: str

    def run(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """Run the graph. May be called from several threads.

        Args:
            pixels_rgb: uint8 (N, H, W, 3) RGB, N from 1 to the file's `max_batch`.

        Returns:
            Arrays that later calls do not change.

        """
        ...

    @property
    def bare_run(self) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
        """The library's own call, without Swath's: pixels as for `run` -> boxes, scores, labels.

        `swath bench` measures it as the lower limit. From one thread; N as the library was prepared for, at least 1.
        """
        ...


class Tensor(NamedTuple):
    """An input or output of a graph; an axis without a fixed length is a name or -1."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


def check_signature(
    inputs: Sequence[Tensor], outputs: Sequence[Tensor], metadata: ModelMetadata, path: Path
) -> int | None:
    """Check the inputs and outputs of a graph against the signature and its own metadata.

    Returns:
        The fixed number of images that it takes; None: from 1 to `metadata.max_batch`.

    Raises:
        ModelFileError: they differ.

    """
    if [(i.name, i.dtype) for i in inputs] != [(INPUT, "uint8")]:
        raise ModelFileError(f"{path}: its inputs are {_listed(inputs)}, not one uint8 '{INPUT}'; export it again")
    shape = list(inputs[0].shape)
    fixed = shape[0] if len(shape) == 4 and isinstance(shape[0], int) and shape[0] > 0 else None
    if shape[1:] != [*metadata.input_size_hw, 3] or fixed not in (None, metadata.max_batch):
        wanted = ["N", *metadata.input_size_hw, 3]
        raise ModelFileError(f"{path}: its input is {shape}, its metadata says {wanted}; export it again")
    if {o.name: (o.dtype, len(o.shape)) for o in outputs} != OUTPUTS:
        raise ModelFileError(
            f"{path}: its outputs are {_listed(outputs)}, not boxes (N, K, 4), "
            "scores (N, K) and labels (N, K); export it again"
        )
    return fixed


def _listed(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in tensors) or "none"
