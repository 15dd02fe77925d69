"""How many images to give the network at once: the largest batch that is faster per image, measured."""

from __future__ import annotations

import time

import numpy as np

from detection.runtime.detector import Detector

_REPEATS = 3
_GAIN = 0.9
"""A batch must take less than this fraction of the time per image: its first image waits for its last."""


def worthwhile_batch(detector: Detector, most: int) -> int:
    """The largest number of images, up to `most`, that are clearly faster together than one by one.

    On a CPU whose cores one image keeps busy that is 1; on a GPU often all of them. Runs the graph a
    few times per size (1, 2, 4, ...) and stops at the first that is not faster.

    Args:
        detector: warmed up.
        most: maximum number of images that can be available at once, 1 or more.

    """
    height, width = detector.metadata.input_size_hw
    best, best_s = 1, _seconds_per_image(detector, 1, height, width) if most > 1 else 0.0
    size = 2
    while size <= min(most, detector.metadata.max_batch):
        seconds = _seconds_per_image(detector, size, height, width)
        if seconds > _GAIN * best_s:
            break
        best, best_s = size, seconds
        size *= 2
    return best


def _seconds_per_image(detector: Detector, size: int, height: int, width: int) -> float:
    """The fastest of several runs, which other programs disturbed least."""
    grey = np.full((size, height, width, 3), detector.metadata.letterbox_pad_value, np.uint8)
    detector.infer(grey)
    took = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        detector.infer(grey)
        took.append(time.perf_counter() - started)
    return min(took) / size
