"""`Detector`: an end-to-end graph (.onnx) as a function from images to `Detections`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.runtime.backends import open_backend
from detection.runtime.backends.contract import Raw as Raw
from detection.runtime.backends.contract import malformed, output_fault
from detection.runtime.detections import Detections
from detection.runtime.errors import ModelFileError, ModelOutputError
from detection.runtime.letterbox import Placement, letterbox
from detection.runtime.metadata import ModelMetadata
from detection.runtime.model_file import read_model


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image fitted to the network's input.

    Attributes:
        pixels: uint8 (H, W, 3) RGB, H and W those of the network's input.
        placement: of the image in it; maps boxes back.

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

    Rows are dropped if they are empty (label -1), below their class's threshold, or without area
    after clipping to the image (in the grey part of the letterbox).

    Args:
        boxes_xyxy: float32 (K, 4), xyxy in pixels of the network's input.
        scores: float32 (K,), 0 to 1.
        labels: int64 (K,), -1 where empty.
        placement: the image's, from `letterbox`.
        score_thresholds: one per class; boxes with this score or more are reported.

    Raises:
        ModelOutputError: a box or score that is not finite, a score outside 0 to 1, or a label above the last class:
            these rows say nothing about the image, and an empty `Detections` would say that nothing is there.

    """
    # Compared as float32: a score of 0.7 is at a threshold of 0.7, though float32(0.7) < 0.7.
    thresholds = np.asarray(score_thresholds, np.float32)
    if fault := output_fault(boxes_xyxy, scores, labels, len(thresholds)):
        raise ModelOutputError(f"{fault}: no answer for this image")
    kept = labels >= 0
    kept &= scores >= thresholds[np.maximum(labels, 0)]
    boxes = placement.to_image(boxes_xyxy[kept])
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[has_area], scores[kept][has_area], labels[kept][has_area])


class Detector:
    """An end-to-end graph, loaded and checked: call it with an image.

        detector = Detector("weeds.onnx")
        detections = detector(cv2.imread("field.jpg"))
        for box_xyxy, score, label in zip(detections.boxes_xyxy, detections.scores, detections.labels):
            print(detector.class_names[label], score, box_xyxy)

    A `Detector` may be called from several threads: it holds no state between calls.

    Args:
        path: the .onnx that `swath export` wrote.
        providers: "openvino" alone (the package of that name), or onnxruntime's execution providers in
            order of preference, by full name or short: "cpu", "cuda", "tensorrt", "coreml", "directml".
            None is onnxruntime on the CPU. A requested provider that is not live, or does not run this
            graph, is an error, never a fallback. The graph runs in the precision of the file's parity
            check; "openvino:bf16", "cuda:tf32" or "tensorrt:fp16" is faster and gives other boxes:
            measure it with `swath evaluate`.
        threads: threads within one operator; None leaves it to the backend (physical cores).
        score_thresholds: None takes the model file's own, one per class. One number applies to all
            classes (0.0 reports all boxes of the graph), a sequence has one per class.

    Attributes:
        metadata: of the model file.
        backend: runs the graph.
        providers: the live providers: "openvino", or as onnxruntime names them.
        score_thresholds: float32 (classes,), those in use.

    Raises:
        ModelFileError: missing, not an .onnx, not Swath's, damaged, or written by a newer Swath.
        DeviceError: a requested provider is not installed, is not live, or leaves the graph
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
        self.metadata: ModelMetadata = read_model(self.path)
        self.backend = open_backend(self.path, self.metadata, providers=providers, threads=threads)
        self.providers: tuple[str, ...] = self.backend.providers
        self.score_thresholds = _thresholds(score_thresholds, self.metadata)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""
        return self.metadata.class_names

    @property
    def runs_on(self) -> str:
        """Library, device and input size, for users."""
        height, width = self.metadata.input_size_hw
        return f"{self.backend.runs_on}, input {height} x {width}"

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Detect in one image.

        Args:
            image_bgr: uint8 (H, W, 3), any size.

        Returns:
            Boxes in pixels of `image_bgr`, highest score first.

        Raises:
            ValueError: not an image of that shape and dtype.
            ModelOutputError: the model gave no answer, such as scores that are not a number.

        """
        return self.detect_batch([image_bgr])[0]

    def detect_batch(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Detect in several images, in batches of at most `metadata.max_batch`.

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
        """The same for a list of one or more images, uint8 (H, W, 3) RGB each; one row each.

        More than `metadata.max_batch` are run in several batches.
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
        """The backend's own call without Swath's, for `swath bench`.

        Takes pixels as `infer` does; returns boxes, scores and labels as in `Raw`.
        """
        return self.backend.bare_run

    def finish(
        self, raw: Raw, row: int, placement: Placement, score_thresholds: NDArray[np.float32] | None = None
    ) -> Detections:
        """Third stage: the detections in row `row` of `raw`, mapped back to the image by `placement`.

        `score_thresholds`, float32 (classes,), replace those in use where they are given.

        Raises:
            ModelOutputError: the row is no answer; see `to_detections`.

        """
        thresholds = self.score_thresholds if score_thresholds is None else score_thresholds
        try:
            return to_detections(raw.boxes[row], raw.scores[row], raw.labels[row], placement, thresholds)
        except ModelOutputError as error:
            raise ModelOutputError(f"{self.path}: {error}") from None

    def set_score_thresholds(self, score_thresholds: float | Sequence[float] | None) -> None:
        """Change the score thresholds from the next call on; arguments and errors as of the class."""
        self.score_thresholds = _thresholds(score_thresholds, self.metadata)

    def warm_up(self, runs: int = 2) -> None:
        """Run on a grey image and on noise, so that the first real one does not wait for allocations.

        Raises:
            ModelFileError: the outputs are malformed: not of their shape, not finite, not sorted or not padded.

        """
        size_hw3 = (1, *self.metadata.input_size_hw, 3)
        grey = np.full(size_hw3, self.metadata.letterbox_pad_value, np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, size_hw3, dtype=np.uint8)
        for turn in range(runs):
            raw = self.infer(grey if turn + 1 < runs else noise)
            if fault := malformed(raw, len(self.metadata.class_names)):
                raise ModelFileError(
                    f"{self.path}: its outputs are malformed here ({fault}), on {self.backend.runs_on}; "
                    "swath verify shows more"
                )


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
