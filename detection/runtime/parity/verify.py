"""Parity check of a model file: its boxes beside those that PyTorch gave at export. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections
from detection.runtime.detector import Detector, Raw
from detection.runtime.errors import ModelFileError
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.agreement import Agreement
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.budgets import has_learned
from detection.runtime.parity.expected import Expected
from detection.runtime.parity.reference import Reference, file_digest, pixels_digest

Parity = BoxParity | Agreement
"""The comparison of a file: box by box in float32, by agreement in lower precision."""

BATCHES = (1, 2, 5, 8)
"""Batch sizes at which a graph is checked."""


def compare(
    detector: Detector,
    inputs_rgb: Sequence[NDArray[np.uint8]],
    expected: Sequence[Expected],
    progress: Callable[[int, int], None] | None = None,
    *,
    learned: bool = True,
) -> Parity:
    """Compare a model file's boxes with expected ones, in batches of every size that it must support.

    Args:
        detector: of the model file, reporting every box (score thresholds 0).
        inputs_rgb: letterboxed, uint8 (H, W, 3) each; at least one.
        expected: of each, in input pixels.
        progress: called with (done, total) images.
        learned: as of `BoxParity`.

    """
    metadata = detector.metadata
    thresholds = tuple(metadata.score_thresholds)
    parity: Parity = (
        BoxParity(thresholds, learned) if metadata.precision == "fp32" else Agreement(metadata.precision, thresholds)
    )
    sizes = [size for size in BATCHES if size <= metadata.max_batch for _ in range(2)]
    total = max(len(inputs_rgb), sum(sizes))
    start = turn = 0
    while start < total:
        size = sizes[turn] if turn < len(sizes) else metadata.max_batch
        chosen = [(start + k) % len(inputs_rgb) for k in range(size)]
        raw = detector.infer(np.stack([inputs_rgb[index] for index in chosen]))
        for row, index in enumerate(chosen):
            found = unpadded(raw, row)
            if found is None:
                parity.malformed += 1
            elif isinstance(parity, Agreement):
                parity.add(expected[index].detections, found)
            else:
                # images come round again; in a uniform one all positions say the same, and no robot acts on it
                image = inputs_rgb[index]
                bounded = start + row < len(inputs_rgb) and image.min() != image.max()
                parity.add(expected[index], found, bounded=bounded)
        start += size
        turn += 1
        if progress:
            progress(min(start, total), total)
    return parity


def unpadded(raw: Raw, row: int) -> Detections | None:
    """One image's rows without the padding; None if they break the contract of the end-to-end graph."""
    boxes, scores, labels = raw.boxes[row], raw.scores[row], raw.labels[row]
    filled = labels >= 0
    in_order: NDArray[np.bool_] = scores[:-1] >= scores[1:]
    padded = (scores[~filled] == 0).all() and (boxes[~filled] == 0).all() and (labels[~filled] == -1).all()
    if not in_order.all() or not padded or not np.isfinite(boxes).all() or (scores[filled] <= 0).any():
        return None
    return Detections(boxes[filled], scores[filled], labels[filled])


@dataclass(frozen=True)
class Verification:
    """Result of `verify`.

    Attributes:
        same_file: whether the model is the very file that was exported, by its SHA-256.
        parity: how far its boxes are from PyTorch's.
        reference_images: how many of the given images the export was checked on: these were compared as well.
        other_images: how many it was not checked on.

    """

    same_file: bool
    parity: Parity
    reference_images: int
    other_images: int


def verify(
    model: Path,
    detector: Detector,
    images_bgr: Iterable[NDArray[np.uint8]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Compare a model file with the boxes that PyTorch gave at its export.

        path = Path("weeds.onnx")     # weeds.reference.npz beside it
        detector = Detector(path, providers=["cuda"], score_thresholds=0.0)
        assert verify(path, detector).parity.passed

    Args:
        model: the .onnx, its reference beside it.
        detector: of it, on the device and provider to be checked, with score thresholds of 0.
        images_bgr: more images, uint8 (H, W, 3) as the export read them.
        progress: called with (done, total) images.

    Raises:
        ModelFileError: no reference, a damaged one, or one of another input size.

    """
    reference = Reference.read(Reference.path_of(model))
    size_hw = detector.metadata.input_size_hw
    if not reference.inputs_rgb or any(image.shape != (*size_hw, 3) for image in reference.inputs_rgb):
        raise ModelFileError(f"{Reference.path_of(model)}: of another model than {model}; export it again")
    inputs, expected = list(reference.inputs_rgb), list(reference.expected)
    others = 0
    for image in images_bgr:
        known = reference.by_digest.get(pixels_digest(image))
        if known is None:
            others += 1
            continue
        inputs.append(letterbox(image, size_hw)[0])
        expected.append(known)
    same = file_digest(model) == reference.model_sha256
    learned = has_learned(float(detector.metadata.parity.get("ap_pytorch", 1.0)))
    parity = compare(detector, inputs, expected, progress, learned=learned)
    return Verification(same, parity, len(inputs) - len(reference.inputs_rgb), others)
