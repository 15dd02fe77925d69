from __future__ import annotations

import http.server
import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.detector import Detector


def _load(name: str) -> ModuleType:
    # pytest's importlib mode puts no test folder on sys.path.
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"runtime_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module that writes the tiny end-to-end graph."""
    return _load("tiny_model")


@pytest.fixture(scope="session")
def model_path(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def detector(model_path: Path) -> Detector:
    return Detector(model_path, threads=1)


def image(height: int = 64, width: int = 96, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Black, with a red rectangle over the pixels of `box` (xyxy)."""
    image = np.zeros((height, width, 3), np.uint8)
    if box is not None:
        x1, y1, x2, y2 = box
        image[y1:y2, x1:x2, 2] = 255
    return image


@pytest.fixture(scope="session")
def make_image() -> Any:
    return image


@pytest.fixture
def video_path(tmp_path: Path) -> Path:
    """30 frames of 96 x 64 at 25 a second; in frame i a red square of 16 px stands at x = i."""
    return write_video(tmp_path / "field.mp4", 30)


def write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (96, 64))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(image(box=(i, 16, i + 16, 32)))
    writer.release()
    return path


@pytest.fixture(scope="session")
def make_video() -> Any:
    return write_video


class CameraServer(http.server.ThreadingHTTPServer):
    """An MJPEG camera on loopback; frame i is uniformly grey i (mod 250). `frames` ends it."""

    daemon_threads = True
    allow_reuse_address = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _CameraHandler)
        self.frames = 10_000
        self.interval_s = 0.01
        self.hang_s = 0.0
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _CameraHandler(http.server.BaseHTTPRequestHandler):
    server: CameraServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(self.server.frames):
                if self.server.closing.is_set():
                    return
                jpeg = cv2.imencode(".jpg", np.full((64, 96, 3), i % 250, np.uint8))[1].tobytes()
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
                self.wfile.write(head + jpeg + b"\r\n")
                time.sleep(self.server.interval_s)
            self.server.closing.wait(self.server.hang_s)
        except OSError:
            pass  # the viewer left


@pytest.fixture
def camera_server() -> Iterator[CameraServer]:
    server = CameraServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join(5)
