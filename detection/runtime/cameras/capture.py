"""OpenCV's video reading, opened with timeouts and without chatter on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import cv2

# FFmpeg's AV_LOG_QUIET, for the same reason as `quiet_opencv`. At import, because OpenCV reads it once,
# when FFmpeg is first used. What the user has set wins.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

OPEN_TIMEOUT_S = 10.0
"""How long a camera on the network may take to answer."""

READ_TIMEOUT_S = 5.0
"""How long one picture of it may take before the camera counts as dead."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that sources use, so that tests can stand in for a camera."""

    def grab(self) -> bool:
        """Wait for the next picture; False where there is none."""

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the grabbed picture could be decoded, and the picture, uint8 (H, W, 3) BGR."""

    def get(self, propId: int, /) -> float:
        """A property, by its cv2.CAP_PROP_ number."""

    def release(self) -> None:
        """Let go of the device, file or connection."""


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """No lines of OpenCV on stderr: what fails is said once, by our own error."""
    logging: Any = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def open_file(path: str) -> cv2.VideoCapture | None:
    """A video file, or None where it is not one."""
    return _open(path, cv2.CAP_FFMPEG, [])


def open_url(url: str, open_timeout_s: float, read_timeout_s: float) -> cv2.VideoCapture | None:
    """A network stream, or None where it did not answer in time."""
    open_ms, read_ms = round(open_timeout_s * 1000), round(read_timeout_s * 1000)
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
    return _open(url, cv2.CAP_FFMPEG, timeouts)


def open_device(device: int | str) -> cv2.VideoCapture | None:
    """A camera by index or /dev path, or None where there is none. V4L2 itself gives up after 10 s."""
    return _open(device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY, [])


def _open(target: int | str, backend: int, parameters: Sequence[int]) -> cv2.VideoCapture | None:
    with quiet_opencv():
        try:
            capture = (
                cv2.VideoCapture(target, backend, list(parameters))
                if isinstance(target, str)
                else cv2.VideoCapture(target, backend)
            )
        except cv2.error:
            return None
        if capture.isOpened():
            return capture
        capture.release()
        return None
