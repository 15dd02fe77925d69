"""A camera that follows a script, and an output that keeps its records."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from detection.runtime.cameras.source import Source
from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.contract import Output, Record


class Kept(Output):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        assert len(detections) == len(record["detections"])
        self.records.append(record)

    def close(self) -> None:
        pass


class Scripted(Source):
    """Gives frames and Nones as scripted; an exception in the script is raised."""

    live = True
    fps = None
    length = None

    def __init__(self, camera: str, script: list[Any]) -> None:
        self.camera = camera
        self.script = script
        self.dropped = 3
        self.unreadable = 1
        self.ended = False
        self.timeouts: list[float] = []

    def poll(self, timeout_s: float) -> Frame | None:
        self.timeouts.append(timeout_s)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            self.ended = True
            raise step
        self.ended = not self.script
        if step is None:
            return None
        if isinstance(step, Frame):
            return step
        return Frame(np.zeros((64, 96, 3), np.uint8), self.camera, step, time.monotonic_ns())

    def close(self) -> None:
        self.ended = True
