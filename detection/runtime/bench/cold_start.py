"""Time and memory from the start of a process to its first detection.

    python -m detection.runtime.bench.cold_start MODEL.onnx

prints one JSON line. The model's file and the libraries are mostly in the disk cache, so this
measures a restart, not the first start after boot.
"""

from __future__ import annotations

import time

_BEGAN_NS = time.monotonic_ns()  # before anything else is imported

import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

_PATIENCE_S = 600  # TensorRT builds an engine
_RUNS = 20  # after the first detection: memory arenas have grown to their size by then


@dataclass(frozen=True)
class ColdStart:
    """Durations and memory of one start.

    Attributes:
        interpreter_s: until Python runs the first line.
        imports_s: numpy, cv2, the backend, `detection.runtime`.
        load_s: `Detector(...)`: the file read, checked and prepared.
        first_run_s: the first call with an image.
        loaded_mb: resident memory after loading, in 10^6 bytes; None where the system does not report it.
        working_mb: the same after 20 more calls.
        peak_mb: the peak.

    """

    interpreter_s: float
    imports_s: float
    load_s: float
    first_run_s: float
    loaded_mb: float | None
    working_mb: float | None
    peak_mb: float | None

    @property
    def total_s(self) -> float:
        """From the start of the process to the first detection."""
        return self.interpreter_s + self.imports_s + self.load_s + self.first_run_s


def cold_start(model: Path, provider: str | None = None, threads: int | None = None) -> ColdStart | str:
    """Start a process that loads `model` and detects once; a string is the reason why that failed.

    Args:
        model: the .onnx file.
        provider: as `Detector` takes it; None is the CPU.
        threads: within one operator; None leaves it to the backend.

    """
    # The monotonic clock is one for all processes of a machine.
    arguments = json.dumps({"provider": provider, "threads": threads, "spawned_ns": time.monotonic_ns()})
    command = [sys.executable, "-m", "detection.runtime.bench.cold_start", str(model), arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {_PATIENCE_S} s"
    try:
        return ColdStart(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        lines = done.stderr.strip().splitlines()
        return f"its process ended with exit {done.returncode} ({lines[-1][:200] if lines else 'no message'})"


def memory_mb() -> tuple[float | None, float | None]:
    """Resident memory of this process now, and its peak, in 10^6 bytes; None where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
        return kib["VmRSS"] * 1024 / 1e6, kib["VmHWM"] * 1024 / 1e6
    except (OSError, KeyError):
        pass
    if sys.platform == "win32":
        return None, None
    import resource

    factor = 1 if sys.platform == "darwin" else 1024
    return None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor / 1e6


def _run(model: Path, provider: str | None, threads: int | None, spawned_ns: int) -> dict[str, Any]:
    from detection.runtime.bench.images import synthetic_images
    from detection.runtime.detector import Detector

    imported_ns = time.monotonic_ns()
    detector = Detector(model, providers=None if provider is None else [provider], threads=threads)
    loaded_ns = time.monotonic_ns()
    loaded_mb, _ = memory_mb()
    image = synthetic_images(detector.metadata.input_size_hw)[0]
    called_ns = time.monotonic_ns()
    detector(image)
    detected_ns = time.monotonic_ns()
    for _ in range(_RUNS):
        detector(image)
    working_mb, peak_mb = memory_mb()
    return {
        "interpreter_s": (_BEGAN_NS - spawned_ns) / 1e9,
        "imports_s": (imported_ns - _BEGAN_NS) / 1e9,
        "load_s": (loaded_ns - imported_ns) / 1e9,
        "first_run_s": (detected_ns - called_ns) / 1e9,
        "loaded_mb": loaded_mb,
        "working_mb": working_mb,
        "peak_mb": peak_mb,
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    outcome = _run(Path(sys.argv[1]), given.get("provider"), given.get("threads"), given.get("spawned_ns", _BEGAN_NS))
    print(json.dumps(outcome))
