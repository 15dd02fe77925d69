"""What computes a deploy graph: onnxruntime by one of its providers, or OpenVINO. `Detector` takes any of them.

Importing this loads neither: a backend is imported when it is asked for.
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
    """The backend of a model file, alive and checked.

    Args:
        path: the .onnx.
        metadata: what it says of itself.
        providers: as `Detector` takes them; None or none of them is onnxruntime on the CPU.
        threads: within one operator; None leaves it to the backend.

    Raises:
        ModelFileError: the graph cannot be read, or is not what its metadata says.
        DeviceError: a provider that is not here, not truly live, or cannot compute in what was asked for.
        ValueError: `threads` is below 1.

    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    asked = [split(name) for name in providers or ("cpu",)]
    names = [name for name, _ in asked]
    compute = next((wanted for _, wanted in asked if wanted), None)
    if OPENVINO in map(full_name, names):
        if len(names) > 1:
            raise DeviceError(f"{', '.join(names)}: openvino computes the whole graph; ask for it alone")
        from detection.runtime.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, metadata, threads=threads, compute=compute)
    from detection.runtime.backends.onnxruntime_backend import OnnxruntimeBackend

    return OnnxruntimeBackend(path, metadata, providers=names, threads=threads, compute=compute)
