"""A whole machine as a process: every output at once, its stop, and a season's worth of images."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from mcap.reader import make_reader

MACHINE = "import sys; from detection.cli.app import main; sys.argv = ['swath', *sys.argv[1:]]; main()"


@contextmanager
def _swath(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", MACHINE, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _until(condition: Any, within_s: float = 60) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert condition()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _video(path: Path, frames: int) -> Path:
    """A red square that goes to and fro, 96 x 64."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (96, 64))
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 90, (64, 96, 3)).astype(np.uint8)
    for i in range(frames):
        image = ground.copy()
        x = abs(i % 120 - 60)
        image[16:32, x : x + 16] = (0, 0, 255)
        writer.write(image)
    writer.release()
    return path


def _machine(folder: Path, model: Path, source: str, **more: Any) -> Path:
    told = {
        "model": {"path": str(model), "threads": 1},
        "cameras": [{"name": "front", "source": source}],
        "tracking": {},
        "outputs": {
            "jsonl": "out/d.jsonl",
            "events": "out/e.jsonl",
            "csv": "out/d.csv",
            "video": "out/v.mp4",
            "mcap": "out/m.mcap",
            "mqtt": "mqtt://farm:secret1@127.0.0.1:9/robot",  # nobody is there
            "webhook": "http://127.0.0.1:9/hook",
            "metrics": {"port": _free_port()},
            "dashboard": {"address": _free_port(), "record_into": "out/recordings"},
            "black_box": {"folder": "out/box", "before_s": 1, "after_s": 0.2, "quota_mb": 200},
        },
        "log": "out/log.jsonl",
        **more,
    }
    path = folder / "machine.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _check_whole(out: Path, frames: int) -> None:
    records = _lines(out / "d.jsonl")
    assert [r["frame"] for r in records] == list(range(frames))
    boxes = sum(len(r["detections"]) for r in records)
    with (out / "d.csv").open(newline="") as file:
        assert sum(1 for _ in csv.reader(file)) == boxes + 1
    assert 0.9 * frames < boxes <= frames  # near the ends of its way the square has company of noise
    capture = cv2.VideoCapture(str(out / "v.mp4"))
    played = 0
    while capture.grab():
        played += 1
    capture.release()
    assert played == frames
    with (out / "m.mcap").open("rb") as file:
        told = [json.loads(m.data) for _, c, m in make_reader(file).iter_messages(topics=["/front/record"])]
    assert [t["frame"] for t in told] == list(range(frames))
    for line in _lines(out / "log.jsonl"):
        assert "secret1" not in json.dumps(line)


def test_every_output_at_once_is_whole(model_path: Path, tmp_path: Path) -> None:
    machine = _machine(tmp_path, model_path, str(_video(tmp_path / "drive.mp4", 400)))
    summary = tmp_path / "s.json"
    with _swath("stream", "--machine", machine, "--summary", summary) as process:
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    _check_whole(tmp_path / "out", 400)
    told = json.loads(summary.read_text())
    assert told["frames"] == 400 and told["outputs_dropped"]["jsonl"] == 0
    assert "track" in told["latency_ms"] and "secret1" not in stderr
    assert "warning: output mqtt: lost" in stderr and "dashboard: http://127.0.0.1:" in stderr


def test_a_live_machine_stops_within_a_second_with_whole_files(
    model_path: Path, tmp_path: Path, camera_server: Any
) -> None:
    took = []
    for attempt in range(3):  # the machine may be busy: what counts is what it can do
        folder = tmp_path / str(attempt)
        folder.mkdir()
        machine = _machine(folder, model_path, f"http://{camera_server.address}/cam")
        port = yaml.safe_load(machine.read_text())["outputs"]["metrics"]["port"]
        jsonl = folder / "out" / "d.jsonl"
        with _swath("stream", "--machine", machine) as process:
            _until(lambda jsonl=jsonl: jsonl.exists() and jsonl.read_bytes().count(b"\n") > 20)
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read().decode()
            assert 'swath_frames_total{camera="front"}' in page
            process.send_signal(signal.SIGUSR1)  # the black box's button
            _until(lambda box=folder / "out" / "box": any((box / "incidents").glob("*/recording.json")))
            process.send_signal(signal.SIGTERM)
            started_s = time.monotonic()
            _, stderr = process.communicate(timeout=30)
            took.append(time.monotonic() - started_s)
        assert process.returncode == 0, stderr
        indices = [r["frame"] for r in _lines(jsonl)]
        assert indices == sorted(set(indices))
        statuses = [line["status"] for line in _lines(folder / "out" / "e.jsonl") if line["kind"] == "camera"]
        assert statuses[0] == "starting" and statuses[-1] == "ended"  # which MQTT's retained status follows
        capture = cv2.VideoCapture(str(folder / "out" / "v.mp4"))
        assert capture.isOpened() and capture.read()[0]
        with (folder / "out" / "m.mcap").open("rb") as file:
            assert make_reader(file).get_summary() is not None  # closed, with its index
        if took[-1] < 1:
            return
    raise AssertionError(f"a stop took {min(took):.2f} s")


def test_an_output_that_fails_at_its_end_leaves_the_summary(model_path: Path, tmp_path: Path) -> None:
    video, summary = _video(tmp_path / "drive.mp4", 10), tmp_path / "s.json"
    flags = ["--video", str(tmp_path / "v.mp4"), "--summary", str(summary)]
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); "  # as a full disk
    command = [sys.executable, "-c", full + MACHINE, "stream", str(model_path), str(video), *flags]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert ended.returncode == 1 and "v.mp4: cannot be written" in ended.stderr
    assert json.loads(summary.read_text())["frames"] == 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_season_of_images_leaves_memory_descriptors_and_threads_flat(model_path: Path, tmp_path: Path) -> None:
    frames = 200_000
    machine = _machine(tmp_path, model_path, str(_video(tmp_path / "drive.mp4", frames)))
    jsonl, marks = tmp_path / "out" / "d.jsonl", []
    with _swath("stream", "--machine", machine) as process:
        stderr = ""
        lines, seen = 0, 0
        while process.poll() is None:
            time.sleep(0.5)
            if not jsonl.exists():
                continue
            with jsonl.open("rb") as file:
                file.seek(seen)
                added = file.read()
            seen += len(added)
            lines += added.count(b"\n")
            if lines >= frames // 10 * (len(marks) + 1):
                marks.append((lines, *_held(process.pid)))
        stderr = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, stderr
    print(f"\n(images, MB, descriptors, threads): {marks}")
    _, megabytes, descriptors, threads = zip(*marks[1:-1], strict=True)  # the first tenth warms up
    assert len(megabytes) >= 7
    assert max(megabytes) - min(megabytes) <= 40 and abs(megabytes[-1] - megabytes[0]) <= 20
    assert max(descriptors) - min(descriptors) <= 4 and max(threads) - min(threads) <= 3
    _check_whole(tmp_path / "out", frames)


def _held(pid: int) -> tuple[float, int, int]:
    """Resident megabytes, descriptors, threads."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return round(megabytes, 1), len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
