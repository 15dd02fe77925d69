"""OpenCV's video capture, opened with timeouts and without messages on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import cv2

from detection.runtime.cameras.ffmpeg_options import DEFAULT_OPTIONS, ffmpeg_options
from detection.runtime.cameras.settings import Transport

# FFmpeg's AV_LOG_QUIET, for the same reason as `quiet_opencv`. At import, because OpenCV reads it once,
# when FFmpeg is first used. What the user has set wins.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# FFmpeg can open several streams at once; without this OpenCV holds a lock of the whole process meanwhile, and one
# silent camera keeps all others waiting.
os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")

# A recording that begins between two key images, or has a damaged stretch: OpenCV's 64 packets without an image would
# be its end. Live streams are bounded by time.
os.environ.setdefault("OPENCV_FFMPEG_DECODE_ATTEMPTS", "100000")
os.environ.setdefault("OPENCV_FFMPEG_READ_ATTEMPTS", "100000")

FIRST_IMAGE_S = 15.0
"""How long a stream may send packets without a complete image: at most until its next key frame."""

_ANALYZE_US = 300_000
"""How long FFmpeg may analyse a stream before it starts. By default it takes up to 5 s, and images that
arrive meanwhile are then read late."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that sources use; other libraries' cameras are adapted to it."""

    def grab(self) -> bool:
        """Wait for the next image; False where there is none."""

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the grabbed image could be decoded, and the image, uint8 (H, W, 3) BGR."""

    def get(self, propId: int, /) -> float:
        """A property, by its cv2.CAP_PROP_ number."""

    def release(self) -> None:
        """Release the device, file or connection."""


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """No messages of OpenCV on stderr: our own error says what failed."""
    logging: Any = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def open_file(path: str) -> cv2.VideoCapture | None:
    """A video file, or None where it is not one."""
    # From the root: FFmpeg takes what stands before the colon of `2026-05-01T06:30.mp4` for a protocol.
    return _open(os.path.abspath(path), cv2.CAP_FFMPEG, [])


def open_url(url: str, open_timeout_s: float, read_timeout_s: float) -> cv2.VideoCapture | None:
    """A network stream other than RTSP; None where it did not answer in time."""
    return _open(url, cv2.CAP_FFMPEG, _parameters(open_timeout_s, read_timeout_s))


def open_rtsp(
    url: str, transport: Transport, open_timeout_s: float, read_timeout_s: float
) -> cv2.VideoCapture | None:
    """An RTSP stream, for low latency, or None where it did not answer in time.

    `read_timeout_s` is silence on the wire. A grab as a whole may take `FIRST_IMAGE_S`, because a
    decoder gives nothing before it has met a key frame.
    """
    # Over UDP, FFmpeg lets three of its timeouts pass.
    silence_us = round(read_timeout_s * 1e6 / (3 if transport == "udp" else 1))
    options = f"rtsp_transport;{transport}|allowed_media_types;video|timeout;{silence_us}"
    parameters = _parameters(open_timeout_s, max(FIRST_IMAGE_S, read_timeout_s))
    opened = _open(url, cv2.CAP_FFMPEG, parameters, f"{options}|analyzeduration;{_ANALYZE_US}")
    if opened is not None and opened.get(cv2.CAP_PROP_FRAME_WIDTH) <= 0:
        # Some cameras send the image size with key frames only, and none came: analyse for longer.
        opened.release()
        opened = _open(url, cv2.CAP_FFMPEG, parameters, options)
    return opened


def open_device(device: int | str) -> cv2.VideoCapture | None:
    """A camera by index or /dev path, or None where there is none. V4L2 itself gives up after 10 s."""
    return _open(device, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY, [])


def has_gstreamer() -> bool:
    """Whether this OpenCV can read GStreamer pipelines; the one of PyPI cannot."""
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER))


def open_pipeline(pipeline: str) -> cv2.VideoCapture | None:
    """A GStreamer pipeline that ends in `appsink`, or None where it does not start."""
    return _open(pipeline, cv2.CAP_GSTREAMER, [])


def _parameters(open_timeout_s: float, read_timeout_s: float) -> list[int]:
    return [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        max(1, round(open_timeout_s * 1000)),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        max(1, round(read_timeout_s * 1000)),
        # Each further decoding thread holds one image more back.
        cv2.CAP_PROP_N_THREADS,
        1,
    ]


def _open(
    target: int | str, backend: int, parameters: Sequence[int], options: str = DEFAULT_OPTIONS
) -> cv2.VideoCapture | None:
    if isinstance(target, str) and any("\ud800" <= character <= "\udfff" for character in target):
        return None  # bytes that are not UTF-8 end the process inside OpenCV
    with quiet_opencv(), ffmpeg_options(options):
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
