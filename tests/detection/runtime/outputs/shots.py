"""Frames, detections and records for the outputs' tests."""

from __future__ import annotations

import time

import numpy as np

from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.contract import Output, Record, make_record

NAMES = ("weed", "crop")


def frame_of(
    index: int = 0,
    size_hw: tuple[int, int] = (64, 96),
    camera: str = "left",
    *,
    captured_ns: int | None = None,
    stream_s: float | None = None,
) -> Frame:
    at_ns = time.monotonic_ns() if captured_ns is None else captured_ns
    return Frame(np.full((*size_hw, 3), 60, np.uint8), camera, index, at_ns, stream_s)


def found_things(count: int = 2, *, tracked: bool = False) -> Detections:
    boxes = np.float32([[10.123, 11.987, 30.005, 31.5], [0, 0, 96, 64]])
    some = np.arange(count) % 2
    scores = np.float32([0.87654321, 0.5])
    return Detections(boxes[some], scores[some], 1 - some, np.arange(count) + 4 if tracked else None)


def record_of(frame: Frame, found: Detections) -> Record:
    return make_record(frame, found, NAMES, age_ms=12.34567, latency_ms={"infer": 9.87654})


def write(output: Output, frame: Frame, found: Detections | None = None) -> Record:
    found = found_things() if found is None else found
    record = record_of(frame, found)
    output.write(frame, found, record)
    return record
