"""A model file proves itself again: the answers that PyTorch gave at export, beside those it gives here and now.

The answers lie beside the model, in `model.reference.npz`: for a few inputs that the file holds, and for the images
that the export was checked on, known by their pixels. Needs no torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections
from detection.runtime.detector import Detector, Raw
from detection.runtime.errors import ModelFileError
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.agreement import Agreement
from detection.runtime.parity.parity import Parity

SCHEMA_VERSION = 1
Outcome = Parity | Agreement
"""How a file compares: box by box in float32, by what it finds in lower precision."""

BATCHES = (1, 2, 5, 8)
"""Numbers of images that a graph is asked for at once."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a detector answers in PyTorch.

    Attributes:
        model_sha256: of the model file, 64 hex digits.
        inputs_rgb: uint8 (H, W, 3) each, letterboxed.
        answers: to each of them, in input pixels, all above the score floor.
        seen: answers to images that are not kept, by `pixels_digest` of the image as it was.

    """

    model_sha256: str
    inputs_rgb: tuple[NDArray[np.uint8], ...]
    answers: tuple[Detections, ...]
    seen: Mapping[str, Detections]

    @staticmethod
    def path_of(model: Path) -> Path:
        """Where the reference of a model file lies: beside it."""
        return model.with_suffix(".reference.npz")

    def to_bytes(self) -> bytes:
        """The file's content: a NumPy archive, images as PNG."""
        everything = (*self.answers, *self.seen.values())
        arrays: dict[str, NDArray[np.generic]] = {
            "about": np.array(json.dumps({"schema": SCHEMA_VERSION, "model_sha256": self.model_sha256})),
            "digests": np.array(list(self.seen), "U64"),
            "counts": np.array([len(answer) for answer in everything], np.int64),
            "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(answer.boxes_xyxy for answer in everything)]),
            "scores": np.concatenate([np.zeros(0, np.float32), *(answer.scores for answer in everything)]),
            "labels": np.concatenate([np.zeros(0, np.int64), *(answer.labels for answer in everything)]),
        }
        for number, image in enumerate(self.inputs_rgb):
            arrays[f"input_{number}"] = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read what `to_bytes` wrote.

        Raises:
            ModelFileError: not there, damaged, or written by a newer Swath.

        """
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file; swath export writes it beside the model: keep them together")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                if about["schema"] > SCHEMA_VERSION:
                    raise ModelFileError(f"{path}: schema {about['schema']} is newer than this Swath; upgrade swath")
                counts = arrays["counts"]
                ends = np.cumsum(counts)[:-1]
                parts = (np.split(arrays[name], ends) for name in ("boxes", "scores", "labels"))
                everything = [Detections(*one) for one in zip(*parts, strict=True)] if len(counts) else []
                digests = arrays["digests"].tolist()
                kept = len(everything) - len(digests)
                inputs = [_decoded(arrays[f"input_{number}"]) for number in range(kept)]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, cv2.error):
            raise ModelFileError(f"{path}: damaged; export the model again") from None
        seen = dict(zip(digests, everything[kept:], strict=True))
        return cls(about["model_sha256"], tuple(inputs), tuple(everything[:kept]), seen)


def _decoded(png: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(png, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("no image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def pixels_digest(image_bgr: NDArray[np.uint8]) -> str:
    """Of an image's size and pixels, 64 hex digits."""
    return hashlib.sha256(str(image_bgr.shape).encode() + np.ascontiguousarray(image_bgr).tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compare(
    detector: Detector,
    inputs_rgb: Sequence[NDArray[np.uint8]],
    answers: Sequence[Detections],
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """A model file's boxes beside those that it should give, in batches of every promised size.

    Args:
        detector: the model file's.
        inputs_rgb: letterboxed, uint8 (H, W, 3) each; at least one.
        answers: to each of them, in input pixels, all above the score floor.
        progress: called with (done, total) images.

    """
    told = detector.metadata
    outcome: Outcome = (
        Parity() if told.precision == "fp32" else Agreement(told.precision, tuple(told.score_thresholds))
    )
    sizes = [size for size in BATCHES if size <= told.max_batch for _ in range(2)]
    wanted = max(len(inputs_rgb), sum(sizes))
    start = turn = 0
    while start < wanted:
        size = sizes[turn] if turn < len(sizes) else told.max_batch
        chosen = [(start + k) % len(inputs_rgb) for k in range(size)]
        raw = detector.infer(np.stack([inputs_rgb[index] for index in chosen]))
        for row, index in enumerate(chosen):
            found = unpadded(raw, row)
            if found is None:
                outcome.wrong_form += 1
            elif isinstance(outcome, Agreement):
                outcome.add(answers[index], found)
            else:
                outcome.add(
                    answers[index],
                    found,
                    score_floor=told.score_floor,
                    nms_iou=told.nms_iou,
                    max_detections=told.max_detections,
                )
        start += size
        turn += 1
        if progress:
            progress(min(start, wanted), wanted)
    return outcome


def unpadded(raw: Raw, row: int) -> Detections | None:
    """One image's rows without the padding; None if they break the contract of the deploy graph."""
    boxes, scores, labels = raw.boxes[row], raw.scores[row], raw.labels[row]
    filled = labels >= 0
    in_order: NDArray[np.bool_] = scores[:-1] >= scores[1:]
    padded = (scores[~filled] == 0).all() and (boxes[~filled] == 0).all() and (labels[~filled] == -1).all()
    if not in_order.all() or not padded or not np.isfinite(boxes).all() or (scores[filled] <= 0).any():
        return None
    return Detections(boxes[filled], scores[filled], labels[filled])


@dataclass(frozen=True)
class Verified:
    """What came out.

    Attributes:
        same_file: whether the model is the very file that was exported.
        parity: how far its answers are from PyTorch's.
        known, unknown: images given beside the reference's own that the export had seen, and had not.

    """

    same_file: bool
    parity: Outcome
    known: int
    unknown: int


def verify(
    model: Path,
    detector: Detector,
    images_bgr: Iterable[NDArray[np.uint8]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Compare a model file with the answers that PyTorch gave at its export.

    Args:
        model: the .onnx, its reference beside it.
        detector: of it, on the device and by the provider that are in question.
        images_bgr: more images, uint8 (H, W, 3) as the export read them.
        progress: called with (done, total) images.

    Raises:
        ModelFileError: no reference, or a damaged one, or one of another input size.

    """
    reference = Reference.read(Reference.path_of(model))
    size_hw = detector.metadata.input_size_hw
    if not reference.inputs_rgb or any(image.shape != (*size_hw, 3) for image in reference.inputs_rgb):
        raise ModelFileError(f"{Reference.path_of(model)}: of another model than {model}; export it again")
    inputs, answers = list(reference.inputs_rgb), list(reference.answers)
    unknown = 0
    for image in images_bgr:
        answer = reference.seen.get(pixels_digest(image))
        if answer is None:
            unknown += 1
            continue
        inputs.append(letterbox(image, size_hw)[0])
        answers.append(answer)
    same = file_digest(model) == reference.model_sha256
    known = len(inputs) - len(reference.inputs_rgb)
    return Verified(same, compare(detector, inputs, answers, progress), known, unknown)
