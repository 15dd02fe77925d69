"""An end-to-end graph run by OpenVINO on the CPU: the package `openvino`, an optional extra."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.runtime.backends.contract import INPUT, OUTPUTS, Raw, Tensor, check_signature
from detection.runtime.backends.names import OPENVINO
from detection.runtime.backends.signal_stack import signal_stack_kept
from detection.runtime.errors import DeviceError, ModelFileError
from detection.runtime.metadata import ModelMetadata

DEVICE = "CPU"
_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_DTYPES = {"u8": "uint8", "f32": "float32", "i64": "int64"}


class OpenVinoBackend:
    """See `detection.runtime.backends.contract.Backend`.

    By default OpenVINO computes in bfloat16 where the CPU supports it (avx512_bf16, AMX), without a message: a
    different detector from the one that was checked. So it is set to compute in float32, whatever the file's
    precision: int8 layers stay int8, and 16-bit weights are widened.

    Single images use a graph of fixed shape, compiled at once; batches share one of any N, compiled by the first.

    Args:
        path: the .onnx.
        metadata: of the file.
        threads: number of threads; None: OpenVINO's choice, all physical cores.
        compute: "fp32" (None), "bf16" or "fp16".

    """

    def __init__(
        self, path: Path, metadata: ModelMetadata, *, threads: int | None = None, compute: str | None = None
    ) -> None:
        wanted = _TYPES.get(compute or "fp32")
        if wanted is None:
            raise DeviceError(f"openvino does not compute in {compute}; it supports: {', '.join(_TYPES)}")
        ov = import_openvino()
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": wanted,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._core = ov.Core()
        try:
            self._model = self._core.read_model(str(path))
        except Exception as error:  # a RuntimeError of many lines
            raise ModelFileError(f"{path}: not a readable .onnx model ({_last_line(error)})") from error
        self._fixed = check_signature(_tensors(self._model.inputs), _tensors(self._model.outputs), metadata, path)
        self._lock = threading.Lock()
        self._requests: dict[int | None, Any] = {}
        try:
            compiled = self._compile(self._fixed or 1, metadata.input_size_hw)
        except Exception as error:
            raise DeviceError(f"{path}: OpenVINO cannot compile it ({_last_line(error)})") from error
        live = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if live != wanted:
            raise DeviceError(f"openvino was set to compute in {wanted} and computes in {live} on this CPU")
        self._requests[self._fixed or 1] = compiled.create_infer_request()
        self.name = f"OpenVINO {version(ov)}"
        self.providers: tuple[str, ...] = (OPENVINO,)
        self.runs_on = f"{self.name}, {DEVICE} in {live}"

    def run(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """See `Backend.run`. One at a time: a single inference stream uses all threads."""
        with self._lock:
            key = len(pixels_rgb) if len(pixels_rgb) in self._requests else None
            if key not in self._requests:
                self._requests[key] = self._compile(None, None).create_infer_request()
            # outputs are copied, so the next run does not change them
            found = self._requests[key].infer([pixels_rgb], share_inputs=True)
            return Raw(*(found[name] for name in OUTPUTS))

    @property
    def bare_run(self) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
        """See `Backend.bare_run`; for the file's fixed batch size, or one image."""
        infer = self._requests[self._fixed or 1].infer

        def run(pixels_rgb: NDArray[np.uint8]) -> list[NDArray[Any]]:
            found = infer([pixels_rgb], share_inputs=True)
            return [found[name] for name in OUTPUTS]

        return run

    def _compile(self, batch: int | None, size_hw: tuple[int, int] | None) -> Any:
        model = self._model
        if batch is not None and size_hw is not None and self._fixed is None:
            model = model.clone()
            model.reshape({INPUT: [batch, *size_hw, 3]})
        with signal_stack_kept():
            return self._core.compile_model(model, DEVICE, self._settings)


def import_openvino() -> Any:
    """Import the package without its telemetry.

    `import openvino` sends "imported", the version and a client id to Google Analytics by way of the package
    `openvino-telemetry`, unless the user has opted out (seen in 2026.4.1: openvino/tools/ovc/__init__.py). Where that
    package is missing OpenVINO uses a stub of its own, so it is hidden during the import.

    Raises:
        DeviceError: not installed, or it does not load.

    """
    try:
        with _hidden("openvino_telemetry"):
            import openvino
    except ModuleNotFoundError:
        raise DeviceError('provider openvino needs its package: pip install "swath[openvino]"') from None
    except ImportError as error:
        raise DeviceError(f"openvino is installed but does not load ({_last_line(error)})") from error
    return openvino


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Within the context, importing `name` fails."""
    missing = object()
    before: Any = sys.modules.get(name, missing)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[name]
        else:
            sys.modules[name] = before


def version(ov: Any) -> str:
    """`2026.4.1` of `2026.4.1-22982-...`."""
    return str(ov.__version__).partition("-")[0]


def _tensors(ports: Any) -> list[Tensor]:
    return [
        Tensor(
            port.any_name,
            _DTYPES.get(kind := port.element_type.get_type_name(), kind),
            tuple("N" if axis.is_dynamic else axis.get_length() for axis in port.partial_shape),
        )
        for port in ports
    ]


def _last_line(error: Exception) -> str:
    """The last line of an OpenVINO message has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
