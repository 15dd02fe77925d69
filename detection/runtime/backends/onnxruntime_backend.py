"""An end-to-end graph run by onnxruntime: on the CPU, or by a provider that is verified to be live."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from detection.runtime.backends.contract import INPUT, OUTPUTS, Raw, Tensor, check_signature
from detection.runtime.backends.names import CPU, CUDA, DIRECTML, TENSORRT, same, short_name
from detection.runtime.backends.node_share import NodeShare
from detection.runtime.backends.provider_options import forbid_tf32, with_options
from detection.runtime.backends.wheels import RUNTIMES, installed_versions, runtime_conflict
from detection.runtime.errors import DeviceError, ModelFileError, reason
from detection.runtime.metadata import ModelMetadata

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxruntimeBackend:
    """See `detection.runtime.backends.contract.Backend`.

    Args:
        path: the .onnx.
        metadata: of the file.
        providers: full or short names in order of preference.
        threads: within one operator; None: as many as there are physical cores.
        compute: "fp32", "tf32", "bf16" or "fp16" where the first provider supports it; None is the precision
            of the file's parity check.

    Attributes:
        nodes: how many nodes each provider ran; None on the CPU alone.

    """

    def __init__(
        self,
        path: Path,
        metadata: ModelMetadata,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int | None = None,
        compute: str | None = None,
    ) -> None:
        names = _available(providers)
        with_their_options = with_options(names, path, metadata, compute, ort.__version__)
        forbid_tf32([name for name, _ in with_their_options], compute)
        self.nodes: NodeShare | None = None
        with _profile_folder() if names != [CPU] else contextlib.nullcontext() as folder:
            self._session = _open_session(path, with_their_options, names, threads, folder)
            fixed = check_signature(
                _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs()), metadata, path
            )
            if folder is not None:
                self.nodes = _verified(self._session, path, names, (fixed or 1, *metadata.input_size_hw, 3))
        self.name = f"onnxruntime {ort.__version__}"
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        self.runs_on = f"{self.name}, {self.providers[0]}"
        device = "cuda" if self.providers[0] in (CUDA, TENSORRT) else None
        self._bound = None if device is None else BoundRuns(self._session, device)

    def run(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """See `Backend.run`."""
        if self._bound is not None:
            return self._bound.run(pixels_rgb)
        return Raw(*self._session.run(list(OUTPUTS), {INPUT: pixels_rgb}))

    @property
    def bare_run(self) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
        """See `Backend.bare_run`."""
        run, outputs = self._session.run, list(OUTPUTS)
        return lambda pixels_rgb: run(outputs, {INPUT: pixels_rgb})


class BoundRuns:
    """Runs with an input buffer on the device, allocated once for each batch size.

    One at a time: the buffer is shared. Outputs are copied to the CPU.
    """

    def __init__(self, session: Any, device: str) -> None:
        self._session = session
        self._device = device
        self._lock = threading.Lock()
        self._bindings: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def run(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """See `Backend.run`."""
        with self._lock:
            if pixels_rgb.shape not in self._bindings:
                buffer = ort.OrtValue.ortvalue_from_shape_and_type(pixels_rgb.shape, np.uint8, self._device, 0)
                binding = self._session.io_binding()
                binding.bind_ortvalue_input(INPUT, buffer)
                self._bindings[pixels_rgb.shape] = (buffer, binding)
            buffer, binding = self._bindings[pixels_rgb.shape]
            buffer.update_inplace(np.ascontiguousarray(pixels_rgb))
            for name in OUTPUTS:  # again, otherwise the arrays of the last run would be overwritten
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            return Raw(*binding.copy_outputs_to_cpu())


def _profile_folder() -> tempfile.TemporaryDirectory[str]:
    # a session that failed to start may keep its file open, and Windows does not delete open files
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def _available(requested: Sequence[str]) -> list[str]:
    """Full names of the requested providers, all of which this onnxruntime has."""
    here = ort.get_available_providers()
    resolved = []
    for name in requested:
        full = next((known for known in here if same(known, name)), None)
        if full is None:
            names = ", ".join(map(short_name, here))
            raise DeviceError(f"provider {name!r} is not in this onnxruntime, which has: {names}")
        resolved.append(full)
    return resolved


def _open_session(
    path: Path,
    with_their_options: list[tuple[str, dict[str, str]]],
    requested: list[str],
    threads: int | None,
    profile_folder: str | None,
) -> Any:
    """An onnxruntime session on exactly these providers (and the CPU for operators they lack).

    Raises:
        ModelFileError: the file cannot be read as a graph.
        DeviceError: a provider did not start.

    """
    options = ort.SessionOptions()
    # Errors are raised as exceptions; onnxruntime's own messages would hide ours.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    names = ", ".join(requested)
    if requested != [CPU]:
        wheels = installed_versions(RUNTIMES)
        if conflict := runtime_conflict(wheels):
            raise DeviceError(f"{names}: {' and '.join(wheels)} are installed side by side: {conflict}")
        load_gpu_libraries()
    for _, given in with_their_options:
        if "trt_engine_cache_path" in given:  # TensorRT's provider creates only the last folder of a path
            _make_folder(Path(given["trt_engine_cache_path"]))
    if profile_folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(profile_folder, "nodes"))
    if DIRECTML in requested:  # it supports neither; see its page in onnxruntime's documentation
        options.enable_mem_pattern = False
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    try:
        # enable_fallback=0: by default onnxruntime retries on the CPU and only prints a message.
        session = ort.InferenceSession(str(path), options, providers=with_their_options, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        why = _said(error)
        if requested == [CPU]:
            raise ModelFileError(f"{path}: not a readable .onnx model ({why})") from error
        raise DeviceError(f"{path}: did not start on {names} ({why}); does it load on the CPU?") from error
    session.disable_fallback()  # nor fall back to the CPU later, when a run fails
    live = session.get_providers()
    dead = [name for name in requested if name not in live]
    if dead:
        session.end_profiling()
        raise DeviceError(
            f"{', '.join(dead)} was requested but is not live (live: {', '.join(live)}); "
            "check the driver and CUDA libraries (swath doctor), or use the CPU"
        )
    return session


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"cannot be created ({error.strerror}), TensorRT keeps its engines there; set XDG_CACHE_HOME"
        raise DeviceError(f"{path}: {why}") from None


def _verified(session: Any, path: Path, requested: Sequence[str], shape: tuple[int, ...]) -> NodeShare:
    """Run once on black images and check which provider did it. Ends the session's profiling.

    Raises:
        DeviceError: it does not run, or not on the requested providers.

    """
    try:
        session.run(list(OUTPUTS), {INPUT: np.zeros(shape, np.uint8)})
    except Exception as error:
        raise DeviceError(f"{path}: does not run on {', '.join(requested)} ({_said(error)})") from error
    finally:
        profile = Path(session.end_profiling())
    nodes = NodeShare.of_profile(profile)
    others = [name for name in requested if name != CPU]
    if why := nodes.why_not_on(others):
        raise DeviceError(f"{path}: {', '.join(others)} is live but does not run this graph: {why}")
    return nodes


def load_gpu_libraries(*, quiet: bool = True) -> None:
    """Let onnxruntime find the CUDA libraries of installed Python packages, where it can.

    Args:
        quiet: onnxruntime logs nothing from now on.

    """
    preload = getattr(ort, "preload_dlls", None)
    if quiet:
        ort.set_default_logger_severity(4)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing; liveness is checked later
            preload()


def _tensors(nodes: Any) -> list[Tensor]:
    return [Tensor(n.name, _DTYPES.get(n.type, n.type), tuple(n.shape)) for n in nodes]


def _said(error: Exception) -> str:
    """What onnxruntime says, without its prefix of codes."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", reason(error))
