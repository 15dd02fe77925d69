"""The images of a benchmark: synthetic ones, or a recording that is decoded again and again."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.recordings import VideoFile
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import camera_name, open_source
from detection.runtime.closing import Closing
from detection.runtime.errors import SourceError


def synthetic_images(size_hw: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Four images of this size, uint8 (H, W, 3) BGR, always the same: noise, gradients, blobs on soil, grey."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), np.uint8)
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    gradient = np.stack(np.broadcast_arrays(across, down, (across + down) / 2), axis=-1).astype(np.uint8)
    field = np.full((height, width, 3), (60, 90, 120), np.uint8)
    for x, y, radius in (rng.random((24, 3)) * (width, height, min(height, width) / 12) + (0, 0, 3)).astype(int):
        cv2.circle(field, (int(x), int(y)), int(radius), (40, 160, 60), -1)
    return [noise, gradient, field, np.full((height, width, 3), 114, np.uint8)]


class Recording(Closing):
    """A video or a folder of images as an endless source: after the last image comes the first again.

    Args:
        spec: what `open_source` takes; not a live camera.

    Attributes:
        name: for reports.
        sizes_hw: heights and widths of the images so far.

    Raises:
        SourceError: nothing there, nothing readable, or a live camera, whose frame rate would limit the benchmark.

    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self.name = camera_name(spec)
        self.sizes_hw: set[tuple[int, int]] = set()
        self._source = self._opened()

    def _opened(self) -> Source:
        source = open_source(self._spec)
        if source.live:
            source.close()
            raise SourceError(
                f"{self.name}: a live camera, whose frame rate would limit the benchmark; name a video or images"
            )
        return source

    def next(self) -> tuple[NDArray[np.uint8], float | None]:
        """The next image, and how long its decoding took in ms; None where it had been decoded ahead.

        Raises:
            SourceError: it broke off.

        """
        for _ in range(2):
            began_ns = time.perf_counter_ns()
            frame = self._source.poll(timeout_s=0)
            took_ms = (time.perf_counter_ns() - began_ns) / 1e6
            if frame is not None:
                height, width = frame.image.shape[:2]
                self.sizes_hw.add((height, width))
                ahead = frame.index == 0 and isinstance(self._source, VideoFile)  # its opening decodes the first one
                return frame.image, None if ahead else took_ms
            self._source.close()
            self._source = self._opened()
        raise SourceError(f"{self.name}: gave no image")

    def close(self) -> None:
        """Close the file."""
        self._source.close()
