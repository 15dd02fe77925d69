"""Backends that run an end-to-end graph: onnxruntime with one of its providers, or OpenVINO.

Importing this loads neither: a backend is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.runtime.backends.contract import Backend, Raw
from detection.runtime.backends.names import OPENVINO, full_name, split
from detection.runtime.errors import DeviceError
from detection.runtime.metadata import ModelMetadata

__all__ = ["Backend", "Raw", "open_backend"]


def open_backend(
    path: Path,
    metadata: ModelMetadata,
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Backend:
    """Open the backend of a model file and check that it is live.

    Args:
        path: the .onnx.
        metadata: of the file.
        providers: as in `Detector`; None or an empty list is onnxruntime on the CPU.
        threads: within one operator; None leaves it to the backend.

    Raises:
        ModelFileError: the graph cannot be read, or does not match its metadata.
        DeviceError: a provider is not installed or not live, or does not support the requested precision.
        ValueError: `threads` is below 1.

    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    requested = [split(name) for name in providers or ("cpu",)]
    names = [name for name, _ in requested]
    compute = next((wanted for _, wanted in requested if wanted), None)
    if OPENVINO in map(full_name, names):
        if len(names) > 1:
            raise DeviceError(f"{', '.join(names)}: openvino runs the whole graph; name no other provider")
        from detection.runtime.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, metadata, threads=threads, compute=compute)
    from detection.runtime.backends.onnxruntime_backend import OnnxruntimeBackend

    return OnnxruntimeBackend(path, metadata, providers=names, threads=threads, compute=compute)
