from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.detections import Frame
from detection.runtime.detector import Detector
from detection.runtime.outputs.contract import make_record


def field_image(i: int, *, brightness: int = 255, size_hw: tuple[int, int] = (120, 100)) -> np.ndarray:
    """Noise that differs in each image, a red patch of `brightness` at a place of its own, no blue."""
    rng = np.random.default_rng(i)
    image = rng.integers(0, 120, (*size_hw, 3), dtype=np.uint8)
    image[:, :, 0] = 0
    image[20:60, 10 + i % 40 : 40 + i % 40, 2] = brightness
    return image


@pytest.fixture
def fresh_detector(model_path: Path) -> Detector:
    """One whose thresholds may be changed."""
    return Detector(model_path, threads=1)


Feed = Callable[..., None]


@pytest.fixture
def feed(fresh_detector: Detector) -> Feed:
    def give(
        box: BlackBox,
        indices: range,
        *,
        camera: str = "front",
        interval_s: float = 0.02,
        brightness: int = 255,
        age_ms: float = 5.0,
    ) -> None:
        for i in indices:
            frame = Frame(field_image(i, brightness=brightness), camera, i, time.monotonic_ns(), i * interval_s)
            found = fresh_detector(frame.image)
            record = make_record(frame, found, fresh_detector.class_names, age_ms=age_ms, latency_ms={})
            box.write(frame, found, record)
            time.sleep(interval_s)

    return give


def wait_until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def make_field_image() -> Callable[..., np.ndarray]:
    return field_image
