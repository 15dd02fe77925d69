"""A robot installs the wheel without extras, gets no torch, and streams."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NOT_ON_A_ROBOT = (
    "torch",
    "torchvision",
    "albumentations",
    "pycocotools",
    "onnx",
    "timm",
    "lightning_fabric",
    "tensorboard",
    "supervision",
    "openvino",
)


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # The developer's own settings must not let the checkout leak into the robot's environment.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment with the wheel and its base dependencies alone."""
    work = tmp_path_factory.mktemp("robot")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work / "dist", ROOT, cwd=work)
    (wheel,) = (work / "dist").glob("swath-*.whl")
    venv.create(work / "venv")
    pins = ROOT / "constraints.txt"
    constraints = ["--constraint", pins] if pins.exists() else []
    # by this Python's pip: one of its own takes seconds to come
    pip = (sys.executable, "-m", "pip", "--python", _program(work, "python"))
    _run(*pip, "install", "--quiet", "--no-compile", *constraints, wheel, cwd=work)
    return work


def _program(robot: Path, name: str) -> Path:
    folder = robot / "venv" / ("Scripts" if os.name == "nt" else "bin")
    return folder / (f"{name}.exe" if os.name == "nt" else name)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parent / "detection" / "runtime" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("robot_tiny_model", source)
    assert spec is not None and spec.loader is not None
    tiny: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    path: Path = tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")
    return path


def test_no_training_library_is_installed(robot: Path) -> None:
    code = (
        "import importlib.util as u, json, sys; "
        "print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n) is not None]))"
    )
    found = json.loads(_run(_program(robot, "python"), "-c", code, *NOT_ON_A_ROBOT, cwd=robot).stdout)
    assert found == []


def test_every_runtime_module_imports_there_and_none_comes_from_the_checkout(robot: Path) -> None:
    code = """
import importlib, json, pkgutil
import detection.runtime
names = [m.name for m in pkgutil.walk_packages(detection.runtime.__path__, "detection.runtime.")]
files, needs = [], {}
for name in names:
    try:
        files.append(importlib.import_module(name).__file__)
    except ModuleNotFoundError as error:
        needs[name] = error.name.partition(".")[0]
print(json.dumps([files, needs]))
"""
    files, needs = json.loads(_run(_program(robot, "python"), "-c", code, cwd=robot).stdout)
    here = ROOT / "detection" / "runtime"
    assert len(files) + len(needs) == len([*here.rglob("[!_]*.py"), *here.glob("*/__init__.py")]) > 20
    # The rooms of the extra `stream`: whoever opens their door is told what to install.
    assert set(needs.values()) <= {"starlette", "uvicorn"} and all(".dashboard." in name for name in needs), needs
    assert all(Path(f).is_relative_to(robot) for f in files)


def test_streams_a_video(robot: Path, model: Path, tmp_path: Path) -> None:
    video = tmp_path / "field.mp4"
    writer = cv2.VideoWriter(str(video), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (96, 64))
    assert writer.isOpened()
    for i in range(20):
        image = np.zeros((64, 96, 3), np.uint8)
        if i != 7:  # an empty field
            image[16:32, 2 * i : 2 * i + 16, 2] = 255
        writer.write(image)
    writer.release()

    jsonl, annotated = tmp_path / "out" / "detections.jsonl", tmp_path / "out" / "annotated.mp4"
    done = _run(
        _program(robot, "swath"), "stream", model, video, "--jsonl", jsonl, "--video", annotated, cwd=tmp_path
    )
    assert "p99" in done.stdout + done.stderr

    content = jsonl.read_text()
    assert content.endswith("\n")
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    for i, line in enumerate(lines):
        assert (line["schema"], line["camera"]) == (1, "field")
        assert line["captured_ns"] > 0 and line["age_ms"] > 0
        assert set(line["latency_ms"]) == {"source", "prepare", "wait", "infer", "finish"}
        if i == 7:
            assert line["detections"] == []
            continue
        (found,) = line["detections"]
        np.testing.assert_allclose(found["box_xyxy"], [2 * i, 16, 2 * i + 16, 32], atol=2)
        assert (found["label"], found["class"], found["track_id"]) == (0, "weed", None)
        assert 0.7 < found["score"] <= 1

    capture = cv2.VideoCapture(str(annotated))
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    assert frames == 20


def test_the_doctor_and_the_check_of_a_model_file_need_no_torch(robot: Path, model: Path, tmp_path: Path) -> None:
    told = json.loads(_run(_program(robot, "swath"), "doctor", "--json", "--provider", "cpu", cwd=tmp_path).stdout)
    states = {finding["what"]: finding["state"] for finding in told["findings"]}
    assert told["ok"] and states["CPUExecutionProvider"] == "ok" and states["torch"] == "note"
    code = """
import sys
from pathlib import Path
import numpy as np
from detection.runtime.detections import Detections
from detection.runtime.parity.expected import Expected
from detection.runtime.parity.reference import Reference, file_digest
model = Path(sys.argv[1])
nothing = Expected(Detections.empty(), np.zeros(0, bool))
black = np.zeros((64, 96, 3), np.uint8)
Reference.path_of(model).write_bytes(Reference(file_digest(model), (black,), (nothing,), {}).to_bytes())
"""
    _run(_program(robot, "python"), "-c", code, model, cwd=tmp_path)
    done = _run(_program(robot, "swath"), "verify", model, cwd=tmp_path)
    assert "agrees with PyTorch on 0 boxes of 32 images" in done.stdout


def test_measures_itself(robot: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = _run(_program(robot, "swath"), "bench", model, "--runs", "5", "--json", out, cwd=tmp_path)
    assert "whole call" in done.stdout and "km/h" in done.stdout
    (one,) = json.loads(out.read_text())["contestants"]
    assert one["runs"] == 5 and one["cold_start"]["reason"] is None
    assert one["cold_start"]["median"]["total_s"] > 0


def test_error_is_one_line(robot: Path, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [_program(robot, "swath"), "stream", "none.onnx", "none.mp4", "--jsonl", "d.jsonl"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0 and "none.onnx" in done.stderr
    assert os.listdir(tmp_path) == []
