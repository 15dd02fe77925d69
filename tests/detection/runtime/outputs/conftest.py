from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Record, make_record

CLASSES = ("weed", "crop")


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
