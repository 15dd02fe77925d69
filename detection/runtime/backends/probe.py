"""Is a provider of onnxruntime, or OpenVINO, live? Tried in a child process, because a failing library can end it.

    python -m detection.runtime.backends.probe CUDAExecutionProvider

prints one JSON line, `{"live": true, "reason": "", "details": ""}`: the protocol of the child process, which only
`__main__` below writes; `probe` reads it.
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
from detection.runtime.errors import reason

PROBE_ONNX = base64.b64decode(
    "CAgSADpEChEKAXgKAXgSAXkiBk1hdE11bBIFcHJvYmVaEwoBeBIOCgwIARIICgIICAoCCAhiEwoBeRIOCgwIARIICgIICAoCCAhCBAoAEA0="
)
"""A graph of one node, y = x x of float32 (8, 8), which every provider can run."""

_PATIENCE_S = 60  # TensorRT takes long to build even this


@dataclass(frozen=True)
class Liveness:
    """Outcome of `probe`.

    Attributes:
        live: whether the provider itself ran the graph, without a fallback to another.
        reason: why not, in one line; empty where it is live.
        details: versions and devices, for users.

    """

    live: bool
    reason: str
    details: str = ""


def probe(provider: str) -> Liveness:
    """Start a process that runs a graph of one node on `provider` (its full name, or `openvino`)."""
    command = [sys.executable, "-m", "detection.runtime.backends.probe", provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Liveness(False, f"did not answer within {_PATIENCE_S} s")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Liveness(False, f"its process ended (exit {done.returncode})")
    # onnxruntime prints the cause to stderr; the exception does not have it
    why_not = "" if answer["live"] else _cause(done.stderr) or answer["reason"]
    return Liveness(answer["live"], why_not, answer["details"])


def _cause(stderr: str) -> str:
    for line in stderr.splitlines():
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
            return Liveness(False, reason(error))
    if set(ran) != {provider}:
        return Liveness(False, f"the graph was run by {', '.join(sorted(ran)) or 'no provider'} instead")
    return Liveness(bool(right), "" if right else "its result is wrong")


def _run_openvino() -> Liveness:
    """With OpenVINO's defaults, to report its default precision: it may be bfloat16."""
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
    except Exception as error:  # a broken installation can raise anything
        return Liveness(False, reason(error))
    chooses = "" if by_itself == "f32" else f"; its default is {by_itself}, Swath sets f32"
    details = f"{version(ov)}, devices: {devices}{chooses}"
    return Liveness(bool(right), "" if right else "its result is wrong", details)


if __name__ == "__main__":
    outcome = _run_openvino() if sys.argv[1] == OPENVINO else _run(sys.argv[1])
    print(json.dumps(asdict(outcome)))
