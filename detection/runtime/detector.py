"""`Detector`: a deploy graph (.onnx) as a function from images to `Detections`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.runtime import metadata as metadata_file
from detection.runtime.backends import open_backend
from detection.runtime.backends.contract import Raw as Raw
from detection.runtime.backends.onnx_file import read_metadata
from detection.runtime.detections import Detections
from detection.runtime.errors import ModelFileError
from detection.runtime.letterbox import Placement, letterbox
from detection.runtime.metadata import ModelMetadata


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image fitted to the network's input.

    Attributes:
        pixels: uint8 (H, W, 3) RGB, H and W those of the network's input.
        placement: where the image lies in it; takes boxes back.

    """

    pixels: NDArray[np.uint8]
    placement: Placement


def to_detections(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    placement: Placement,
    score_thresholds: Sequence[float] | NDArray[np.float32],
) -> Detections:
    """The last step of every detector: padded rows in input pixels -> `Detections` of the image.

    Rows are dropped where they are empty (label -1), below their class's threshold, or without area
    once clipped to the image (they lay in the letterbox's grey part).

    Args:
        boxes_xyxy: float32 (K, 4), xyxy in pixels of the network's input.
        scores: float32 (K,), 0 to 1.
        labels: int64 (K,), -1 where empty.
        placement: the image's, from `letterbox`.
        score_thresholds: one per class; at and above it a box is reported.

    Raises:
        ModelFileError: a label beyond the last class.

    """
    # Compared as float32: a score of 0.7 is at a threshold of 0.7, though float32(0.7) < 0.7.
    thresholds = np.asarray(score_thresholds, np.float32)
    if labels.size and labels.max() >= len(thresholds):
        raise ModelFileError(
            f"the model gave label {labels.max()} but names {len(thresholds)} classes; export it again"
        )
    kept = labels >= 0
    kept &= scores >= thresholds[np.maximum(labels, 0)]
    boxes = placement.to_image(boxes_xyxy[kept])
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[has_area], scores[kept][has_area], labels[kept][has_area])


class Detector:
    """A deploy graph, loaded and checked, ready to be called with images.

        detector = Detector("weeds.onnx")
        detections = detector(cv2.imread("field.jpg"))

    One `Detector` may be called from several threads: it holds no state between calls.

    Args:
        path: the .onnx that `swath export` wrote.
        providers: "openvino" alone (the package of that name), or onnxruntime's execution providers in
            order of preference, by full name or short: "cpu", "cuda", "tensorrt", "coreml", "directml".
            None is onnxruntime's CPU alone: anything else is used when it is asked for, and asking for
            one that does not come to life, or does not compute this graph, is an error. A graph is
            computed in what the file was checked in; "openvino:bf16", "cuda:tf32" or "tensorrt:fp16" is
            faster and another detector: `swath evaluate` says what it costs.
        threads: threads within one operator; None leaves it to the backend (physical cores).
        score_thresholds: None takes the model file's own, one per class. One number counts for all
            classes (0.0 gives everything that the graph gives), a sequence has one per class.

    Attributes:
        metadata: what the model file says of itself.
        backend: what computes the graph.
        providers: the providers that are live: "openvino", or as onnxruntime names them.
        score_thresholds: float32 (classes,), those in force.

    Raises:
        ModelFileError: missing, not an .onnx, not Swath's, damaged, or written by a newer Swath.
        DeviceError: a provider that was asked for is not here, did not come to life, or leaves the graph
            to the CPU.
        ValueError: `score_thresholds` has another length than the classes or is not from 0 to 1, or
            `threads` is below 1.

    """

    def __init__(
        self,
        path: Path | str,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        score_thresholds: float | Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path)
        text = read_metadata(self.path).get(metadata_file.KEY)
        self.metadata: ModelMetadata = metadata_file.parse(text, str(self.path))
        self.backend = open_backend(self.path, self.metadata, providers=providers, threads=threads)
        self.providers: tuple[str, ...] = self.backend.providers
        self.score_thresholds = _thresholds(score_thresholds, self.metadata)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""
        return self.metadata.class_names

    @property
    def runs_on(self) -> str:
        """By what, where and at which size it runs, in words."""
        height, width = self.metadata.input_size_hw
        return f"{self.backend.runs_on}, input {height} x {width}"

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """What is in one image.

        Args:
            image_bgr: uint8 (H, W, 3), any size.

        Returns:
            Boxes in pixels of `image_bgr`, highest score first.

        Raises:
            ValueError: not an image of that shape and dtype.

        """
        return self.detect_batch([image_bgr])[0]

    def detect_batch(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """What is in each of some images, run in batches of at most `metadata.max_batch`.

        Args:
            images_bgr: uint8 (H, W, 3) each, of any and of different sizes; may be empty.

        Returns:
            One `Detections` per image, in order.

        """
        found: list[Detections] = []
        step = self.metadata.max_batch
        for start in range(0, len(images_bgr), step):
            prepared = [self.prepare(image) for image in images_bgr[start : start + step]]
            raw = self.infer_all([p.pixels for p in prepared])
            found += [self.finish(raw, row, p.placement) for row, p in enumerate(prepared)]
        return found

    def prepare(self, image_bgr: NDArray[np.uint8]) -> Prepared:
        """First stage: fit an image, uint8 (H, W, 3), to the network's input.

        Raises:
            ValueError: not an image of that shape and dtype, or without pixels.

        """
        if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or not image_bgr.size:
            raise ValueError(f"an image must be uint8 (H, W, 3) with pixels, got {image_bgr.dtype} {image_bgr.shape}")
        return Prepared(*letterbox(image_bgr, self.metadata.input_size_hw))

    def infer(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """Second stage: run the graph on uint8 (N, H, W, 3) RGB, N from 1 to `metadata.max_batch`."""
        return self.backend.run(pixels_rgb)

    def infer_all(self, pixels_rgb: Sequence[NDArray[np.uint8]]) -> Raw:
        """The same of several images, uint8 (H, W, 3) RGB each, one or more; one row each.

        More than `metadata.max_batch` are run in several goes.
        """
        if len(pixels_rgb) == 1:  # needs no copy
            return self.infer(pixels_rgb[0][None])
        step = self.metadata.max_batch
        runs = [self.infer(np.stack(pixels_rgb[i : i + step])) for i in range(0, len(pixels_rgb), step)]
        if len(runs) == 1:
            return runs[0]
        return Raw(*(np.concatenate(rows) for rows in zip(*map(astuple, runs), strict=True)))

    @property
    def bare_run(self) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
        """The backend's own call with nothing around it: what `swath bench` holds the detector against.

        Takes pixels as `infer` does; gives boxes, scores and labels as `Raw` holds them.
        """
        return self.backend.bare_run

    def finish(
        self, raw: Raw, row: int, placement: Placement, score_thresholds: NDArray[np.float32] | None = None
    ) -> Detections:
        """Third stage: what row `row` of `raw` says of the image that lies at `placement`.

        `score_thresholds`, float32 (classes,), count instead of those in force where they are given.
        """
        thresholds = self.score_thresholds if score_thresholds is None else score_thresholds
        return to_detections(raw.boxes[row], raw.scores[row], raw.labels[row], placement, thresholds)

    def set_score_thresholds(self, score_thresholds: float | Sequence[float] | None) -> None:
        """Report boxes from these scores on, from the next call; arguments and errors as of the class."""
        self.score_thresholds = _thresholds(score_thresholds, self.metadata)

    def warm_up(self, runs: int = 2) -> None:
        """Run on a grey image, so that the first real one does not pay for allocations."""
        height, width = self.metadata.input_size_hw
        for _ in range(runs):
            self.infer(np.full((1, height, width, 3), self.metadata.letterbox_pad_value, np.uint8))


def _thresholds(given: float | Sequence[float] | None, metadata: ModelMetadata) -> NDArray[np.float32]:
    """One threshold per class, read-only."""
    classes = len(metadata.class_names)
    values = np.array(metadata.score_thresholds if given is None else given, np.float32)
    if values.ndim == 0:
        values = np.repeat(values, classes)
    if values.shape != (classes,):
        raise ValueError(f"score_thresholds must be one number or {classes}, got shape {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"score_thresholds must be from 0 to 1, got {values.tolist()}")
    values.setflags(write=False)
    return values
