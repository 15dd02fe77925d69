"""Several images of a recording in the network at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.backends.contract import Raw
from detection.runtime.cameras.sources import open_source
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import DeviceError
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.options import StreamOptions
from detection.runtime.streaming.pipeline import run_stream

pytestmark = pytest.mark.serial


class Unsteady:
    """A detector whose runs take the longer the earlier they begin; knows how many there were at once."""

    def __init__(self, detector: Detector, fails_at: int = -1) -> None:
        self._detector, self._fails_at = detector, fails_at
        self._lock = threading.Lock()
        self._begun = self._running = self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def infer_all(self, pixels: list[np.ndarray]) -> Raw:
        with self._lock:
            begun, self._begun = self._begun, self._begun + 1
            self._running += 1
            self.most = max(self.most, self._running)
        if begun == self._fails_at:
            raise DeviceError("no memory left")
        time.sleep(0.03 if begun % 3 == 0 else 0.001)
        with self._lock:
            self._running -= 1
        return self._detector.infer_all(pixels)


class Asking(Output):
    """Notes with how many threads OpenCV works when an output is written."""

    def __init__(self, seen: list[int]) -> None:
        self._seen = seen

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        self._seen.append(cv2.getNumThreads())

    def close(self) -> None:
        pass


def test_several_workers_give_what_one_gives_in_order(detector: Detector, video_path: Path) -> None:
    told = []
    for workers in (1, 3):
        unsteady, records = Unsteady(detector), []
        with open_source(video_path) as source:
            summary = run_stream(
                unsteady,  # type: ignore[arg-type]
                [source],
                [],
                StreamOptions(workers=workers),
                on_progress=lambda frame, found, record, records=records: records.append(record),
            )
        assert unsteady.most == workers and summary.frames == 30
        told.append([(record["frame"], record["detections"]) for record in records])
    assert [frame for frame, _ in told[1]] == list(range(30))
    assert told[0] == told[1]


def test_a_live_image_has_the_network_for_itself(detector: Detector, camera_server: Any) -> None:
    unsteady = Unsteady(detector)
    with open_source(f"http://{camera_server.address}/cam") as source:
        run_stream(unsteady, [source], [], StreamOptions(workers=3), max_frames=6)  # type: ignore[arg-type]
    assert unsteady.most == 1


def test_a_worker_that_fails_ends_the_run_and_earlier_images_are_told(detector: Detector, video_path: Path) -> None:
    told: list[int] = []
    with open_source(video_path) as source, pytest.raises(DeviceError, match="no memory left"):
        run_stream(
            Unsteady(detector, fails_at=7),  # type: ignore[arg-type]
            [source],
            [],
            StreamOptions(workers=2),
            on_progress=lambda frame, found, record: told.append(frame.index),
        )
    assert told == list(range(7))
    assert not [t for t in threading.enumerate() if t.name.startswith(("infer", "prepare", "publish"))]


def test_opencv_leaves_the_cores_to_the_network_while_a_stream_runs(detector: Detector, video_path: Path) -> None:
    seen: list[int] = []
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with open_source(video_path) as source:
            run_stream(detector, [source], [Asking(seen)], max_frames=2)
        assert seen == [1, 1] and cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
