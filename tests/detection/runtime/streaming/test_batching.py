from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from detection.runtime.backends.contract import Raw
from detection.runtime.detector import Detector
from detection.runtime.streaming.batching import worthwhile_batch

pytestmark = pytest.mark.serial


class _Timed(Detector):
    """The tiny graph, taking as long as it is told to."""

    def __init__(self, path: Any, seconds: dict[int, float]) -> None:
        super().__init__(path, threads=1)
        self.seconds = seconds
        self.sizes: list[int] = []

    def infer(self, pixels_rgb: np.ndarray) -> Raw:
        time.sleep(self.seconds.get(len(pixels_rgb), 0))
        self.sizes.append(len(pixels_rgb))
        return super().infer(pixels_rgb)


@pytest.mark.parametrize(
    ("seconds", "most", "worth"),
    [
        ({1: 0.02, 2: 0.04, 4: 0.08}, 4, 1),  # a processor: twice the images, twice the time
        ({1: 0.02, 2: 0.02, 4: 0.02}, 4, 4),  # a GPU: as good as for nothing
        ({1: 0.02, 2: 0.02, 4: 0.06}, 4, 2),
        ({1: 0.02, 2: 0.02, 4: 0.02}, 3, 2),  # of three cameras
    ],
)
def test_as_many_as_it_is_faster_for(model_path: Any, seconds: dict[int, float], most: int, worth: int) -> None:
    assert worthwhile_batch(_Timed(model_path, seconds), most) == worth


def test_one_camera_needs_no_trial(model_path: Any) -> None:
    detector = _Timed(model_path, {})
    assert worthwhile_batch(detector, 1) == 1 and detector.sizes == []
