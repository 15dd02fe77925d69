"""Calibration for int8: the choice of representative images, and the activation ranges on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from data import Dataset
from detection.export.precision.int8 import Ranges
from detection.runtime.letterbox import letterbox

Method = Literal["minmax", "percentile"]

IMAGES = 64
"""Number of images to calibrate on, at most."""

_POOL = 1000  # images to choose from, spread evenly over the dataset
_THUMBNAIL_PX = 8
_BINS = 16
_HISTOGRAM_BINS = 2048
_PERCENTILE = 99.99


def choose(images: Dataset, count: int = IMAGES, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Choose `count` images that represent a dataset, in its order; deterministic.

    K-center greedy (Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985) over image signatures
    (colour layout and histograms), so that every field, day and light is represented, and a thousand images of one
    row count for little. First comes the image nearest to the mean, then always the one farthest from those chosen.

    Args:
        images: to choose from; of very many, 1,000 spread evenly.
        count: how many.
        progress: called with (done, total) images.

    """
    pool = images.spread(_POOL)
    if len(pool) <= count:
        return pool
    signatures = []
    for done, (_, image) in enumerate(pool.read(), 1):
        signatures.append(_signature(image))
        if progress:
            progress(done, len(pool))
    return pool.subset(sorted(spread(np.stack(signatures), count)))


def spread(points: NDArray[np.float32], count: int) -> list[int]:
    """K-center greedy: indices of `count` of the points, float (N, D), in the order of their choice."""
    chosen = [int(np.linalg.norm(points - points.mean(0), axis=1).argmin())]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def _signature(image_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Image signature of 240 numbers: colour layout, and histograms of lightness and the two chroma channels."""
    small = cv2.resize(image_bgr, (64, 64), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)
    layout = cv2.resize(lab, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    shares = [np.histogram(lab[..., c], _BINS, (0, 256))[0] / lab[..., c].size for c in range(3)]
    # square roots of shares: Hellinger distance of histograms; both halves weigh about the same
    return np.concatenate([layout.ravel() / _THUMBNAIL_PX, np.sqrt(np.concatenate(shares))]).astype(np.float32)


def inputs_of(images: Dataset, size_hw: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """The images letterboxed to the network's input, uint8 (H, W, 3) RGB."""
    return (letterbox(image, size_hw)[0] for _, image in images.read())


def measure(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    inputs: Sequence[NDArray[np.uint8]],
    *,
    method: Method = "minmax",
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """Activation ranges of some tensors of a graph over some inputs.

    Args:
        model: float32, with the single input of an end-to-end graph.
        tensors: their names.
        inputs: uint8 (H, W, 3) RGB each; at least one.
        method: `minmax` takes the least and the greatest value. `percentile` leaves out one value in ten
            thousand, half at each end: outliers are clipped, and all others get finer steps.
        progress: called with (done, total).

    """
    with tempfile.TemporaryDirectory() as folder:
        # one session that returns the activations, read image by image, so that memory stays small
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        there = {value.name for value in watched.graph.output}
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
        path = Path(folder, "watched.onnx")
        path.write_bytes(watched.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # fused operators would hide the activations between them
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    watch = _Extremes() if method == "minmax" else _Histograms()
    for done, image in enumerate(inputs, 1):
        for name, value in zip(tensors, session.run(list(tensors), {_only_input(model): image[None]}), strict=True):
            watch.see(name, value)
        if progress:
            progress(done, len(inputs))
    return watch.ranges()


def _only_input(model: onnx.ModelProto) -> str:
    return str(model.graph.input[0].name)


class _Extremes:
    """The least and the greatest value of each tensor."""

    def __init__(self) -> None:
        self.lows: dict[str, float] = {}
        self.highs: dict[str, float] = {}

    def see(self, name: str, value: NDArray[np.float32]) -> None:
        self.lows[name] = min(self.lows.get(name, np.inf), float(value.min()))
        self.highs[name] = max(self.highs.get(name, -np.inf), float(value.max()))

    def ranges(self) -> Ranges:
        return Ranges(self.lows, self.highs)


class _Histograms:
    """A histogram of each tensor's values; bins widen as greater values arrive."""

    def __init__(self) -> None:
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.reach: dict[str, float] = {}

    def see(self, name: str, value: NDArray[np.float32]) -> None:
        reach = float(np.abs(value).max())
        if name not in self.counts:
            self.counts[name] = np.zeros(2 * _HISTOGRAM_BINS, np.int64)
            self.reach[name] = max(reach, 1e-6)
        while reach > self.reach[name]:  # bins join in pairs around zero, which is a border of theirs
            halved = self.counts[name].reshape(-1, 2).sum(1)
            self.counts[name] = np.pad(halved, _HISTOGRAM_BINS // 2)
            self.reach[name] *= 2
        span = (-self.reach[name], self.reach[name])
        self.counts[name] += np.histogram(value, 2 * _HISTOGRAM_BINS, span)[0]

    def ranges(self) -> Ranges:
        lows, highs = {}, {}
        for name, counts in self.counts.items():
            edges = np.linspace(-self.reach[name], self.reach[name], 2 * _HISTOGRAM_BINS + 1)
            below = np.cumsum(counts) / counts.sum()
            tail = (1 - _PERCENTILE / 100) / 2
            lows[name] = float(edges[np.searchsorted(below, tail, side="right")])
            highs[name] = float(edges[np.searchsorted(below, 1 - tail) + 1])
        return Ranges(lows, highs)
