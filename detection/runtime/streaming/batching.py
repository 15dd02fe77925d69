"""How many images to give the network at once: as many as it is faster for, found by trying."""

from __future__ import annotations

import time

import numpy as np

from detection.runtime.detector import Detector

_TURNS = 3
_GAIN = 0.9
"""An image of a batch must take less than this part of its time alone: the first waits for the last."""


def worthwhile_batch(detector: Detector, most: int) -> int:
    """The largest number of images, up to `most`, that together are clearly faster than one by one.

    On a processor whose cores one image keeps busy that is 1; on a GPU often all of them. Takes
    some runs of the graph per size that it tries (1, 2, 4, ...) and stops at the first that does not pay.

    Args:
        detector: warmed up.
        most: of images that can be there at once, 1 or more.

    """
    height, width = detector.metadata.input_size_hw
    best, best_s = 1, _seconds_a_image(detector, 1, height, width) if most > 1 else 0.0
    size = 2
    while size <= min(most, detector.metadata.max_batch):
        seconds = _seconds_a_image(detector, size, height, width)
        if seconds > _GAIN * best_s:
            break
        best, best_s = size, seconds
        size *= 2
    return best


def _seconds_a_image(detector: Detector, size: int, height: int, width: int) -> float:
    """The fastest of some runs: what other programs take away is not the graph's."""
    grey = np.full((size, height, width, 3), detector.metadata.letterbox_pad_value, np.uint8)
    detector.infer(grey)
    took = []
    for _ in range(_TURNS):
        started = time.perf_counter()
        detector.infer(grey)
        took.append(time.perf_counter() - started)
    return min(took) / size
