from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Record, make_record

CLASSES = ("weed", "crop")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Sample:
    """Frames, records and events as the stream hands them out."""

    def frame(self, index: int = 0, camera: str = "left") -> Frame:
        return Frame(np.zeros((4, 6, 3), np.uint8), camera, index, time.monotonic_ns(), stream_s=0.04 * index)

    def found(self, labels: tuple[int, ...] = (1, 0)) -> Detections:
        n = len(labels)
        boxes = np.tile(np.float32([1, 2, 5, 8]), (n, 1))
        return Detections(boxes, np.full(n, 0.5), np.array(labels, np.int64), np.arange(n) + 7)

    def record(self, frame: Frame, found: Detections, **given: Any) -> Record:
        facts: dict[str, Any] = {"age_ms": 12.5, "latency_ms": {"infer": 9.0, "finish": 0.5}, **given}
        return make_record(frame, found, CLASSES, **facts)

    def call(self, index: int = 0, camera: str = "left", labels: tuple[int, ...] = (1, 0), **given: Any) -> Any:
        """What an output's `write` is called with."""
        frame, found = self.frame(index, camera), self.found(labels)
        return frame, found, self.record(frame, found, **given)

    def status(self, camera: str, status: str) -> Event:
        return Event("camera", camera, status, f"{camera} is {status}")


@pytest.fixture(scope="session")
def sample() -> Sample:
    return Sample()


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits until a condition holds, and fails where it never does."""
    return wait_until


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_port() -> int:
    return _free_port()


class Broker:
    """A real mosquitto on loopback that can be frozen, killed and started again on the same port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, config: str = "allow_anonymous true") -> None:
        assert MOSQUITTO is not None
        self._config.write_text(f"user root\nlistener {self.port} 127.0.0.1\n{config}\n")
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < until, "mosquitto does not start"
                time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@pytest.fixture
def broker(tmp_path: Path, free_port: int) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("needs Debian's mosquitto")
    broker = Broker(tmp_path, free_port)
    yield broker
    broker.kill()


@contextmanager
def _served(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    stop, taken = threading.Event(), []

    def serve() -> None:
        while not stop.is_set():
            try:
                viewer, _ = server.accept()
            except OSError:
                return
            taken.append(viewer)
            answer(viewer, stop)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for viewer in taken:
                viewer.close()


@pytest.fixture
def served() -> Callable[..., AbstractContextManager[int]]:
    """A server on a free port, which it gives: each connection is answered by a function, until the block ends."""
    return _served
