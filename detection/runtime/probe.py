"""Is an execution provider of onnxruntime alive? Asked in a process of its own: what fails to load can end a process.

    python -m detection.runtime.probe CUDAExecutionProvider

prints one JSON line, `{"live": true, "reason": ""}`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from detection.runtime.backends.onnxruntime_backend import load_gpu_libraries

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

    """

    live: bool
    reason: str


def probe(provider: str) -> Liveness:
    """Start a process that runs a graph of one node on `provider` (its full name)."""
    command = [sys.executable, "-m", "detection.runtime.probe", provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Liveness(False, f"gave no answer in {_PATIENCE_S} s")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Liveness(False, f"ended its process (exit {done.returncode})")
    # onnxruntime tells the cause to stderr alone, and the exception that it could not
    return Liveness(answer["live"], "" if answer["live"] else _cause(done.stderr) or answer["reason"])


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
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            return Liveness(False, (str(error).strip().splitlines() or [type(error).__name__])[0][:200])
    ran_on = {event["args"]["provider"] for event in events if event.get("args", {}).get("provider")}
    if ran_on != {provider}:
        return Liveness(False, f"the graph was run by {', '.join(sorted(ran_on)) or 'nobody'} instead")
    return Liveness(right, "" if right else "it computes wrongly")


if __name__ == "__main__":
    outcome = _run(sys.argv[1])
    print(json.dumps({"live": bool(outcome.live), "reason": outcome.reason}))
