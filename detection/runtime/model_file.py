"""A model file: its metadata, read only where the file's content is what was exported.

The digest is the SHA-256 of the whole file, taken with the digest's own 64 digits as zeros: so it can stand in the
metadata of the file that it describes, and covers weights, graph, thresholds and class names alike.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from pathlib import Path

from detection.runtime.backends.onnx_file import read_metadata
from detection.runtime.errors import ModelFileError
from detection.runtime.metadata import KEY, NO_DIGEST, ModelMetadata, parse

_log = logging.getLogger(__name__)
_UNSEALED = f'"file_sha256":"{NO_DIGEST}"'.encode()


def read_model(path: Path) -> ModelMetadata:
    """The metadata of a model file whose content is what was exported.

    A file of a Swath before the digest is read as it is; one line is logged for it.

    Raises:
        ModelFileError: missing, not an .onnx, not Swath's, damaged, or written by a newer Swath.

    """
    metadata = parse(read_metadata(path).get(KEY), str(path))
    if metadata.file_sha256 is None:
        _log_without_digest(path)
        return metadata
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    if digest(content, metadata.file_sha256) != metadata.file_sha256:
        raise ModelFileError(
            f"{path}: damaged or changed: its content is not what was exported (another SHA-256); "
            "copy it again, or export it again"
        )
    return metadata


def sealed(content: bytes) -> bytes:
    """A serialised model whose metadata has `NO_DIGEST` as `file_sha256` -> the same with its digest there."""
    place = content.rindex(_UNSEALED) + len(_UNSEALED) - 1
    found = hashlib.sha256(content).hexdigest().encode()
    return content[: place - len(found)] + found + content[place:]


def digest(content: bytes, stated: str) -> str:
    """SHA-256 of a model file's content with the digits of `stated` as zeros, 64 hex digits."""
    place = content.rfind(stated.encode())
    if place < 0:
        return ""
    view = memoryview(content)
    hashed = hashlib.sha256(view[:place])
    hashed.update(NO_DIGEST.encode())
    hashed.update(view[place + len(stated) :])
    return hashed.hexdigest()


@cache
def _log_without_digest(path: Path) -> None:
    _log.warning("%s: of an older Swath, without a digest: damage to it goes unnoticed; export it again", path)
