"""`model.reference.npz`: what PyTorch found at export, for `swath verify` to compare with here and now.

It holds a few inputs with their detections, and the detections of the images that the export was checked on,
identified by their pixels; of all of them which boxes are borderline, and what may come in their place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections
from detection.runtime.errors import ModelFileError
from detection.runtime.parity.expected import Expected

SCHEMA_VERSION = 2
"""Schema 1 did not know what is borderline; it is read."""

_COLUMNS = ("boxes", "scores", "labels")


@dataclass(frozen=True, eq=False)
class Reference:
    """What a detector finds in PyTorch, kept beside its exported file.

    Attributes:
        model_sha256: of the model file, 64 hex digits.
        inputs_rgb: letterboxed inputs that the file holds, uint8 (H, W, 3) each.
        expected: of each of them, in input pixels.
        by_digest: of images that the file does not hold, by `pixels_digest` of the original image.

    """

    model_sha256: str
    inputs_rgb: tuple[NDArray[np.uint8], ...]
    expected: tuple[Expected, ...]
    by_digest: Mapping[str, Expected]

    @staticmethod
    def path_of(model: Path) -> Path:
        """Path of a model file's reference: `model.reference.npz` beside `model.onnx`."""
        return model.with_suffix(".reference.npz")

    def to_bytes(self) -> bytes:
        """Content of the file: a NumPy archive, inputs as PNG."""
        everything = (*self.expected, *self.by_digest.values())
        followed = all(one.borderline is not None for one in everything)
        arrays: dict[str, NDArray[np.generic]] = {
            "about": np.array(
                json.dumps({"schema": SCHEMA_VERSION if followed else 1, "model_sha256": self.model_sha256})
            ),
            "digests": np.array(list(self.by_digest), "U64"),
            **_columns("", [one.detections for one in everything]),
        }
        if followed:
            flags = (one.borderline for one in everything if one.borderline is not None)
            arrays["borderline"] = np.concatenate([np.zeros(0, bool), *flags])
            arrays |= _columns("alternate_", [one.alternates for one in everything])
        for number, image in enumerate(self.inputs_rgb):
            arrays[f"input_{number}"] = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Read a file that `to_bytes` wrote.

        Raises:
            ModelFileError: missing, damaged, or written by a newer Swath.

        """
        if not path.is_file():
            raise ModelFileError(f"{path}: no such file; swath export writes it beside the model: keep them together")
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                if not isinstance(about, dict) or not isinstance(about.get("schema"), int):
                    raise ValueError("it does not describe itself")
                if about["schema"] > SCHEMA_VERSION:
                    raise ModelFileError(f"{path}: schema {about['schema']} is newer than this Swath; upgrade swath")
                model_sha256 = str(about["model_sha256"])
                everything = _expected(arrays, followed=about["schema"] > 1)
                digests = arrays["digests"].tolist()
                kept = len(everything) - len(digests)
                inputs = [_decoded(arrays[f"input_{number}"]) for number in range(kept)]
                by_digest = dict(zip(digests, everything[kept:], strict=True))
        except ModelFileError:
            raise
        except Exception as error:  # zipfile, zlib, numpy, json and OpenCV raise a dozen types for a damaged archive
            reason = str(error) or type(error).__name__
            raise ModelFileError(f"{path}: damaged; export the model again, or copy it again ({reason})") from None
        return cls(model_sha256, tuple(inputs), tuple(everything[:kept]), by_digest)


def _columns(prefix: str, lists: Sequence[Detections]) -> dict[str, NDArray[np.generic]]:
    nothing = Detections.empty()
    return {
        f"{prefix}counts": np.array([len(found) for found in lists], np.int64),
        f"{prefix}boxes": np.concatenate([found.boxes_xyxy for found in (nothing, *lists)]),
        f"{prefix}scores": np.concatenate([found.scores for found in (nothing, *lists)]),
        f"{prefix}labels": np.concatenate([found.labels for found in (nothing, *lists)]),
    }


def _expected(arrays: Mapping[str, NDArray[Any]], *, followed: bool) -> list[Expected]:
    found = _lists(arrays, "")
    if not followed:
        return [Expected(one) for one in found]
    borderline = np.split(arrays["borderline"].astype(bool), np.cumsum([len(one) for one in found])[:-1])
    if any(len(one) != len(flags) for one, flags in zip(found, borderline, strict=False)):
        raise ValueError("flags of other boxes")
    alternates = _lists(arrays, "alternate_")
    return [Expected(*one) for one in zip(found, borderline, alternates, strict=True)] if found else []


def _lists(arrays: Mapping[str, NDArray[Any]], prefix: str) -> list[Detections]:
    counts = arrays[f"{prefix}counts"]
    ends = np.cumsum(counts)[:-1]
    parts = (np.split(arrays[f"{prefix}{name}"], ends) for name in _COLUMNS)
    return [Detections(*one) for one in zip(*parts, strict=True)] if len(counts) else []


def _decoded(png: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = cv2.imdecode(png, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("no image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def pixels_digest(image_bgr: NDArray[np.uint8]) -> str:
    """SHA-256 of an image's size and pixels, 64 hex digits."""
    return hashlib.sha256(str(image_bgr.shape).encode() + np.ascontiguousarray(image_bgr).tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
