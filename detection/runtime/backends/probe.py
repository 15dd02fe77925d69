"""Is a provider of onnxruntime, or OpenVINO, alive? Asked in a process of its own: what fails to load can end one.

    python -m detection.runtime.backends.probe CUDAExecutionProvider

prints one JSON line, `{"live": true, "reason": "", "told": ""}`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from detection.runtime.backends.names import OPENVINO
from detection.runtime.backends.node_share import NodeShare
from detection.runtime.backends.onnxruntime_backend import load_gpu_libraries
from detection.runtime.backends.openvino_backend import DEVICE, import_openvino, version

PROBE_ONNX = base64.b64decode(
    "CAgSADpEChEKAXgKAXgSAXkiBk1hdE11bBIFcHJvYmVaEwoBeBIOCgwIARIICgIICAoCCAhiEwoBeRIOCgwIARIICgIICAoCCAhCBAoAEA0="
)
"""A graph of one node, y = x x of float32 (8, 8): something that every provider can compute."""

_PATIENCE_S = 60  # TensorRT takes its time to build even this


@dataclass(frozen=True)
class Liveness:
    """What came of it.

    Attributes:
        live: whether the provider itself ran the graph; a silent fall back to another is no life.
        reason: why not, in a line; empty where it is live.
        told: what else it says of itself, in words.

    """

    live: bool
    reason: str
    told: str = ""


def probe(provider: str) -> Liveness:
    """Start a process that runs a graph of one node on `provider` (its full name, or `openvino`)."""
    command = [sys.executable, "-m", "detection.runtime.backends.probe", provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Liveness(False, f"gave no answer in {_PATIENCE_S} s")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Liveness(False, f"ended its process (exit {done.returncode})")
    # onnxruntime tells the cause to stderr alone, and the exception that it could not
    why_not = "" if answer["live"] else _cause(done.stderr) or answer["reason"]
    return Liveness(answer["live"], why_not, answer["told"])


def _cause(said: str) -> str:
    for line in said.splitlines():
        if "with error: " in line:
            return line.split("with error: ", 1)[1].strip()
    return ""


def _run(provider: str) -> Liveness:
    load_gpu_libraries(quiet=False)
    options = ort.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "probe"))
        try:
            session = ort.InferenceSession(PROBE_ONNX, options, providers=[provider], enable_fallback=0)
            session.disable_fallback()
            x = np.arange(64, dtype=np.float32).reshape(8, 8)
            right = np.allclose(session.run(None, {"x": x})[0], x @ x, rtol=1e-2)
            ran = NodeShare.of_profile(Path(session.end_profiling())).nodes
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            return Liveness(False, (str(error).strip().splitlines() or [type(error).__name__])[0][:200])
    if set(ran) != {provider}:
        return Liveness(False, f"the graph was run by {', '.join(sorted(ran)) or 'nobody'} instead")
    return Liveness(bool(right), "" if right else "it computes wrongly")


def _run_openvino() -> Liveness:
    """What OpenVINO would do if it were told nothing is worth knowing: it may compute in bfloat16."""
    try:
        ov = import_openvino()
        core = ov.Core()
        compiled = core.compile_model(core.read_model(PROBE_ONNX), DEVICE)
        x = np.arange(64, dtype=np.float32).reshape(8, 8)
        right = np.allclose(compiled([x])["y"], x @ x, rtol=1e-2)
        by_itself = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        devices = ", ".join(
            f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices
        )
    except Exception as error:  # a broken installation raises whatever it likes
        return Liveness(False, (str(error).strip().splitlines() or [type(error).__name__])[0][:200])
    chooses = "" if by_itself == "f32" else f"; by itself it would compute in {by_itself}, Swath tells it f32"
    told = f"{version(ov)}, devices: {devices}{chooses}"
    return Liveness(bool(right), "" if right else "it computes wrongly", told)


if __name__ == "__main__":
    outcome = _run_openvino() if sys.argv[1] == OPENVINO else _run(sys.argv[1])
    print(json.dumps(asdict(outcome)))
