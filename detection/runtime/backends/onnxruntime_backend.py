"""A deploy graph computed by onnxruntime: on the CPU, or by a provider that has to prove that it is live."""

from __future__ import annotations

import contextlib
import io
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
from detection.runtime.errors import DeviceError, ModelFileError
from detection.runtime.metadata import ModelMetadata

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


class OnnxruntimeBackend:
    """See `detection.runtime.backends.contract.Backend`.

    Args:
        path: the .onnx.
        metadata: what it says of itself.
        providers: full or short names in order of preference.
        threads: within one operator; None: as many as there are physical cores.
        compute: "fp32", "tf32", "bf16" or "fp16" where the first provider has a choice; None is what the file
            was checked in.

    Attributes:
        nodes: which provider ran how many nodes; None on the CPU alone, where there is nothing to ask.

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
        asked = _available(providers)
        told = with_options(asked, path, metadata, compute, ort.__version__)
        forbid_tf32([name for name, _ in told], compute)
        self.nodes: NodeShare | None = None
        with _profile_folder() if asked != [CPU] else contextlib.nullcontext() as folder:
            self._session = _open_session(path, told, asked, threads, folder)
            fixed = check_signature(
                _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs()), metadata, path
            )
            if folder is not None:
                self.nodes = _proven(self._session, path, asked, (fixed or 1, *metadata.input_size_hw, 3))
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
    """Runs whose input has a place on the device that is made once for each number of images.

    One at a time: the place is shared. Outputs come to the CPU.
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
                place = ort.OrtValue.ortvalue_from_shape_and_type(pixels_rgb.shape, np.uint8, self._device, 0)
                binding = self._session.io_binding()
                binding.bind_ortvalue_input(INPUT, place)
                self._bindings[pixels_rgb.shape] = (place, binding)
            place, binding = self._bindings[pixels_rgb.shape]
            place.update_inplace(np.ascontiguousarray(pixels_rgb))
            for name in OUTPUTS:  # anew, or the arrays of the last run would be written over
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            return Raw(*binding.copy_outputs_to_cpu())


def _profile_folder() -> tempfile.TemporaryDirectory[str]:
    # a session that failed to start may hold its file open, which Windows does not let us delete
    return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)


def _available(asked: Sequence[str]) -> list[str]:
    """Full provider names of what was asked for, checked against what this onnxruntime has."""
    here = ort.get_available_providers()
    resolved = []
    for name in asked:
        full = next((known for known in here if same(known, name)), None)
        if full is None:
            names = ", ".join(map(short_name, here))
            raise DeviceError(f"provider {name!r} is not in this onnxruntime, which has: {names}")
        resolved.append(full)
    return resolved


def _open_session(
    path: Path,
    told: list[tuple[str, dict[str, str]]],
    asked: list[str],
    threads: int | None,
    profile_folder: str | None,
) -> Any:
    """An onnxruntime session on exactly these providers (and the CPU for operators they lack).

    Raises:
        ModelFileError: the file cannot be read as a graph.
        DeviceError: a provider did not come to life.

    """
    options = ort.SessionOptions()
    # What goes wrong comes back as an exception; onnxruntime's own lines would bury ours.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    names = ", ".join(asked)
    if asked != [CPU]:
        wheels = installed_versions(RUNTIMES)
        if conflict := runtime_conflict(wheels):
            raise DeviceError(f"{names}: {' and '.join(wheels)} are installed side by side: {conflict}")
        load_gpu_libraries()
    for _, given in told:
        if "trt_engine_cache_path" in given:  # TensorRT's provider makes the last folder of a path only
            _make_folder(Path(given["trt_engine_cache_path"]))
    if profile_folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(profile_folder, "nodes"))
    if DIRECTML in asked:  # it refuses both; see its page in onnxruntime's documentation
        options.enable_mem_pattern = False
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    try:
        # enable_fallback=0: by default onnxruntime retries on the CPU, and only prints that it did.
        session = ort.InferenceSession(str(path), options, providers=told, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        reason = _first_line(error)
        if asked == [CPU]:
            raise ModelFileError(f"{path}: not a readable .onnx model ({reason})") from error
        raise DeviceError(f"{path}: did not start on {names} ({reason}); does it load on the CPU?") from error
    session.disable_fallback()  # nor silently on to the CPU later, when a run fails
    live = session.get_providers()
    dead = [name for name in asked if name not in live]
    if dead:
        session.end_profiling()
        raise DeviceError(
            f"{', '.join(dead)} was asked for but did not come to life (live: {', '.join(live)}); "
            "check the driver and CUDA libraries (swath doctor), or ask for the CPU"
        )
    return session


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = f"cannot be made ({error.strerror}), TensorRT keeps its engines there; set XDG_CACHE_HOME"
        raise DeviceError(f"{path}: {why}") from None


def _proven(session: Any, path: Path, asked: Sequence[str], shape: tuple[int, ...]) -> NodeShare:
    """Run once on black images and see who did it. The session records no more after that.

    Raises:
        DeviceError: it runs, but not on what was asked for.

    """
    try:
        session.run(list(OUTPUTS), {INPUT: np.zeros(shape, np.uint8)})
    except Exception as error:
        raise DeviceError(f"{path}: does not run on {', '.join(asked)} ({_first_line(error)})") from error
    finally:
        profile = Path(session.end_profiling())
    nodes = NodeShare.of_profile(profile)
    others = [name for name in asked if name != CPU]
    if why := nodes.why_not_on(others):
        raise DeviceError(f"{path}: {', '.join(others)} is live but does not compute this graph: {why}")
    return nodes


def load_gpu_libraries(*, quiet: bool = True) -> None:
    """Let onnxruntime find the CUDA libraries that came as Python packages, where it can.

    Args:
        quiet: from now on onnxruntime says nothing by itself.

    """
    preload = getattr(ort, "preload_dlls", None)
    if quiet:
        ort.set_default_logger_severity(4)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses; we check liveness
            preload()


def _tensors(nodes: Any) -> list[Tensor]:
    return [Tensor(n.name, _DTYPES.get(n.type, n.type), tuple(n.shape)) for n in nodes]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line.rsplit(" : ", 1)[-1][:200]
