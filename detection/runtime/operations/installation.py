"""`examine`: what works on this machine: wheels, OpenCV, execution providers, GPUs; what `swath doctor` shows."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import detection
from detection.runtime.backends.names import (
    COREML,
    CPU,
    CUDA,
    DIRECTML,
    OPENVINO,
    TENSORRT,
    full_name,
    same,
    short_name,
    split,
)
from detection.runtime.backends.probe import Liveness, probe
from detection.runtime.backends.provider_options import TENSORRT_WHEELS
from detection.runtime.backends.wheels import RUNTIMES, installed_versions, runtime_conflict
from detection.runtime.operations.finding import Finding, State

_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
_PATIENCE_S = 20


def examine(required: Sequence[str] = ()) -> list[Finding]:
    """Examine this machine and its Python environment.

    Args:
        required: providers that must run a graph here, by full or short name ("cuda", "openvino").

    Returns:
        A finding for each thing that was examined; `wrong` ones must be mended.

    """
    required = [split(name)[0] for name in required]
    installed = installed_versions((*_OPENCV, *RUNTIMES, *TENSORRT_WHEELS))
    tried = {name: probe(name) for name in ort.get_available_providers()}
    openvino = probe(OPENVINO) if importlib.util.find_spec(OPENVINO) else None
    return [
        _machine(),
        Finding("swath", "ok", f"{detection.__version__}, numpy {np.__version__}"),
        opencv_finding({name: installed[name] for name in _OPENCV if name in installed}, *_live_cv2()),
        runtime_finding({name: installed[name] for name in RUNTIMES if name in installed}, ort.__version__),
        *provider_findings(tried, [name for name in required if full_name(name) != OPENVINO]),
        openvino_finding(openvino, required=any(full_name(name) == OPENVINO for name in required)),
        tensorrt_finding({name: installed[name] for name in TENSORRT_WHEELS if name in installed}),
        *_gpus(),
        suggestion(tried, openvino),
    ]


def opencv_finding(wheels: Mapping[str, str], live: str, capabilities: str) -> Finding:
    """Wheels of OpenCV share one folder: the last one installed is imported, and two versions get mixed.

    Args:
        wheels: installed ones and their versions.
        live: the version that `import cv2` gives.
        capabilities: what it was built with.

    """
    names = ", ".join(f"{name} {version}" for name, version in wheels.items()) or "no wheel (a build of its own)"
    said = f"{live} is live ({capabilities}); installed: {names}"
    if len(set(wheels.values())) > 1:
        newest = max(wheels.values(), key=_in_order)
        mend = f"pip install --force-reinstall --no-deps {' '.join(f'{name}=={newest}' for name in wheels)}"
        return Finding("cv2", "wrong", f"{said}: versions that overwrite one another; {mend}")
    if wheels and not next(iter(wheels.values())).startswith(live):
        return Finding("cv2", "wrong", f"{said}: another cv2 comes first on the path; remove it or its wheel")
    return Finding("cv2", "ok", said)


def runtime_finding(wheels: Mapping[str, str], live: str) -> Finding:
    """Wheels of onnxruntime share one folder too: with two of them the GPU is not used.

    Args:
        wheels: installed ones and their versions.
        live: the version that `import onnxruntime` gives.

    """
    names = ", ".join(f"{name} {version}" for name, version in wheels.items()) or "no wheel (a build of its own)"
    said = f"{live} is live; installed: {names}"
    conflict = runtime_conflict(wheels)
    return Finding("onnxruntime", "wrong" if conflict else "ok", f"{said}: {conflict}" if conflict else said)


def provider_findings(tried: Mapping[str, Liveness], required: Sequence[str]) -> list[Finding]:
    """Which execution providers run a graph. One that does not is a fault only where it is required.

    Args:
        tried: the outcome for each provider that this onnxruntime has, by full name.
        required: full or short names.

    """
    found = []
    for name, liveness in tried.items():
        must = any(same(name, given) for given in required)
        state: State = "ok" if liveness.live else "wrong" if must else "note"
        found.append(
            Finding(name, state, "live: it ran a graph" if liveness.live else f"not live: {liveness.reason}")
        )
    here = ", ".join(tried)
    unknown = [given for given in dict.fromkeys(required) if not any(same(name, given) for name in tried)]
    return found + [Finding(given, "wrong", f"not in this onnxruntime, which has {here}") for given in unknown]


def openvino_finding(tried: Liveness | None, *, required: bool) -> Finding:
    """The package `openvino`.

    Args:
        tried: the outcome of trying it; None: it is not installed.
        required: whether it must run a graph here.

    """
    bad: State = "wrong" if required else "note"
    if tried is None:
        return Finding(OPENVINO, bad, 'not installed: pip install "swath[openvino]"')
    if not tried.live:
        return Finding(OPENVINO, bad, f"not live: {tried.reason}")
    return Finding(OPENVINO, "ok", f"live: it ran a graph; {tried.details}")


def tensorrt_finding(wheels: Mapping[str, str]) -> Finding:
    """TensorRT's libraries, which onnxruntime's provider needs and does not bring."""
    if not wheels:
        return Finding(
            "TensorRT", "note", "no tensorrt package; one that the system brings (Jetson) is found without"
        )
    return Finding("TensorRT", "ok", ", ".join(f"{name} {version}" for name, version in wheels.items()))


def suggestion(tried: Mapping[str, Liveness], openvino: Liveness | None) -> Finding:
    """Which backend to use here.

    Args:
        tried: onnxruntime's providers, as `provider_findings` takes them.
        openvino: as `openvino_finding` takes it.

    """
    for name in (TENSORRT, CUDA, COREML, DIRECTML):
        if name in tried and tried[name].live:
            said = f"--provider {short_name(name)}; then swath verify MODEL --provider {short_name(name)}"
            return Finding("suggestion", "ok", said)
    alive = CPU in tried and tried[CPU].live
    if openvino is not None and openvino.live:
        int8 = "--provider openvino for int8 files"
    else:
        int8 = 'for int8 files pip install "swath[openvino]" and --provider openvino'
    said = f"fp32 files: onnxruntime on the CPU, leave --provider out; {int8} (docs/robot/backends.md)"
    return Finding("suggestion", "ok" if alive else "note", said)


def to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as JSON, with keys that stay: `ok`, and `what`, `state` and `said` of each."""
    ok = all(finding.state != "wrong" for finding in findings)
    listed = [{"what": one.subject, "state": one.state, "said": one.message} for one in findings]
    return {"schema": 1, "ok": ok, "findings": listed}


def _in_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = f"{platform.system()} {platform.machine()}, {_cpu_name()}, {cores} cores to use"
    return Finding("machine", "ok", f"{said}, Python {platform.python_version()}")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor() or "a CPU"


def _live_cv2() -> tuple[str, str]:
    import cv2

    built = cv2.getBuildInformation().splitlines()
    wanted = {"FFMPEG": "FFmpeg", "GStreamer": "GStreamer", "v4l/v4l2": "cameras by V4L2"}
    has = []
    for line in built:
        key, _, value = line.strip().partition(":")
        if key in wanted:
            has.append(f"{wanted[key]} {'yes' if value.strip().startswith('YES') else 'no'}")
    return cv2.__version__, ", ".join(has)


def _gpus() -> list[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return [Finding("GPU", "note", "no nvidia-smi here: no NVIDIA driver")]
    command = [program, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [Finding("GPU", "note", f"nvidia-smi does not answer ({type(error).__name__})")]
    if done.returncode or not done.stdout.strip():
        said = (done.stdout + done.stderr).strip().splitlines()
        return [Finding("GPU", "note", f"nvidia-smi finds none ({said[0] if said else done.returncode})")]
    return [Finding("GPU", "ok", line.strip()) for line in done.stdout.splitlines()]
