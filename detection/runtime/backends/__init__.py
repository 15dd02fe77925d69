"""What computes a deploy graph: onnxruntime by one of its providers, or OpenVINO. `Detector` takes any of them.

Importing this loads neither: a backend is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detection.runtime.backends.contract import Backend, Raw
from detection.runtime.backends.names import OPENVINO, full_name
from detection.runtime.errors import DeviceError
from detection.runtime.metadata import ModelMetadata

__all__ = ["Backend", "Raw", "open_backend"]


def open_backend(
    path: Path,
    metadata: ModelMetadata,
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    compute: str | None = None,
) -> Backend:
    """The backend of a model file, alive and checked.

    Args:
        path: the .onnx.
        metadata: what it says of itself.
        providers: as `Detector` takes them; None or none of them is onnxruntime on the CPU.
        threads: within one operator; None leaves it to the backend.
        compute: "fp32", "tf32", "bf16" or "fp16": what to compute in where the provider has a choice;
            None is what the file was checked in.

    Raises:
        ModelFileError: the graph cannot be read, or is not what its metadata says.
        DeviceError: a provider that is not here, not truly live, or cannot compute in `compute`.
        ValueError: `threads` is below 1.

    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    if OPENVINO in map(full_name, providers or ()):
        if len(providers or ()) > 1:
            raise DeviceError(f"{', '.join(providers or ())}: openvino computes the whole graph; ask for it alone")
        from detection.runtime.backends.openvino_backend import OpenVinoBackend

        return OpenVinoBackend(path, metadata, threads=threads, compute=compute)
    from detection.runtime.backends.onnxruntime_backend import OnnxruntimeBackend

    return OnnxruntimeBackend(path, metadata, providers=providers or ("cpu",), threads=threads, compute=compute)
