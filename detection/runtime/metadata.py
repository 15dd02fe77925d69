"""Metadata of an end-to-end graph: one JSON in the .onnx, under the key `swath`."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detection.runtime import letterbox
from detection.runtime.compatibility import current_model_metadata
from detection.runtime.errors import ModelFileError
from detection.runtime.settings import Fraction, explain

KEY = "swath"
"""The entry of the ONNX `metadata_props` that holds the JSON."""

SCHEMA_VERSION = 3
"""The schema that this version of Swath writes, and the newest that it reads. Schema 1 had other names, 2 no
`file_sha256`."""


NO_DIGEST = "0" * 64
"""Stands for `file_sha256` while the file's digest is computed; see `detection.runtime.model_file`."""


_WITH_DIGEST = 3
_Side = Annotated[int, Field(ge=1, le=16384)]


class Licences(BaseModel):
    """Licences of what the model was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str = Field(description="licence note of the weights that training started from")
    data: str = Field(description="licence note of the training images, or 'not stated'")


class ModelMetadata(BaseModel):
    """What a robot needs to know about a model file. Unknown keys of the same schema version are ignored."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = Field(description="schema of this JSON")
    swath_version: str = Field(description="version of Swath that wrote the file")
    preset: str = Field(description="name of the detector's preset")
    backbone: str = Field(description="name of the backbone")
    class_names: tuple[str, ...] = Field(min_length=1, description="label 0, 1, ... by name")
    input_size_hw: tuple[_Side, _Side] = Field(description="height and width of the graph's input in pixels")
    letterbox_rule: str = Field(description="how images are fitted to the input, by name")
    letterbox_pad_value: int = Field(description="grey level of the input outside the image, 0 to 255")
    score_thresholds: tuple[Fraction, ...] = Field(description="per class: at and above it a box is reported")
    pre_nms_score_threshold: Fraction = Field(description="the graph itself drops boxes at or below this score")
    nms_iou: Fraction = Field(description="IoU above which the lower-scored of two boxes of one class is suppressed")
    max_detections: int = Field(ge=1, description="K, the fixed number of rows of the graph's outputs")
    pre_nms_top_k: int | None = Field(
        None, ge=1, description="most boxes into NMS, per level or class; null: no such limit, or an early file"
    )
    max_batch: int = Field(ge=1, le=1024, description="the graph was checked for batches of 1 up to this many images")
    precision: str = Field(description="fp32, fp16 or int8")
    dataset_fingerprint: str = Field(description="of the training images and labels")
    metrics: dict[str, Any] = Field(description="measured at export on the validation split; may be empty")
    parity: dict[str, Any] = Field(description="parity report: how far the file was from PyTorch at export")
    licences: Licences
    file_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the file with these 64 digits as zeros; null up to schema 2",
    )

    def to_json(self) -> str:
        """The JSON to store under `KEY`."""
        return self.model_dump_json()


def parse(text: str | None, path: str) -> ModelMetadata:
    """Parse the metadata of the model file `path`, whose entry under `KEY` is `text` (None: it has none).

    Names of schema 1 are read too, see `detection.runtime.compatibility`.

    Raises:
        ModelFileError: not written by Swath, written by a newer Swath, damaged, or made for
            another letterbox rule.

    """
    if text is None:
        raise ModelFileError(f"{path}: not a Swath model (no '{KEY}' metadata); write one with: swath export")
    try:
        content = json.loads(text)
        version = int(content["schema_version"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise ModelFileError(f"{path}: its '{KEY}' metadata is damaged; export the model again") from None
    if version > SCHEMA_VERSION:
        raise ModelFileError(
            f"{path}: schema {version} is newer than the {SCHEMA_VERSION} this Swath reads; upgrade swath"
        )
    try:
        metadata = ModelMetadata.model_validate(current_model_metadata(content, path))
    except ValidationError as error:
        why = explain(error.errors()[0], ModelMetadata)
        raise ModelFileError(f"{path}: its '{KEY}' metadata is damaged at {why}; export the model again") from None
    if version >= _WITH_DIGEST and metadata.file_sha256 is None:
        raise ModelFileError(f"{path}: its '{KEY}' metadata is damaged: no file_sha256; export the model again")
    if len(metadata.score_thresholds) != len(metadata.class_names):
        raise ModelFileError(f"{path}: has not one score threshold per class; export the model again")
    rule = (metadata.letterbox_rule, metadata.letterbox_pad_value)
    if rule != (letterbox.RULE, letterbox.PAD_VALUE):
        raise ModelFileError(
            f"{path}: made for letterbox rule {rule[0]!r} (pad {rule[1]}), which this Swath no longer has; "
            "export the model again"
        )
    return metadata
