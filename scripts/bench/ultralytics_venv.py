"""Ultralytics (AGPL) for benchmarks alone: in a virtual environment of its own, which borrows this one's torch."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ULTRALYTICS = "ultralytics==8.4.190"


def ultralytics_python(venv: Path) -> tuple[str | None, str]:
    """The interpreter of an environment that has Ultralytics and this one's libraries, or None and why not."""
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    borrowed = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    steps: list[list[str]] = []
    if not python.exists():
        steps.append([sys.executable, "-m", "venv", str(venv)])
    for command in [*steps, [str(python), "-c", borrowed]]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None, done.stderr.strip().splitlines()[-1]
    # Its dependencies but the light ones are here already, and a second torch or OpenCV would not be the same test.
    Path(done.stdout.strip(), "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    light = ["psutil", "polars", "requests", "matplotlib", "onnxslim"]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [*install, "--no-deps", ULTRALYTICS],
        [*install, *light],
        [str(python), "-c", "import ultralytics"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ultralytics_env(venv))
        if done.returncode:
            return None, (done.stderr.strip() or "pip failed").splitlines()[-1]
    return str(python), ""


def ultralytics_env(venv: Path) -> dict[str, str]:
    """What its process is to find in its environment: it stays in its own folder, and off the network."""
    return {**os.environ, "YOLO_CONFIG_DIR": str(venv), "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
