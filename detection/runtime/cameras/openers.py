"""How each kind of live camera is opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from detection.runtime.cameras import capture
from detection.runtime.cameras.connection import REFUSAL_TIMEOUT_S, Opened, RefusedError
from detection.runtime.cameras.genicam import GenicamCapture, check_genicam
from detection.runtime.cameras.names import (
    GENICAM_PREFIX,
    PIPELINE_PREFIX,
    URL,
    is_device,
    is_pipeline,
    without_secrets,
)
from detection.runtime.cameras.refusals import why_refused
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.errors import SourceError

Opener = Callable[[float], Opened]
"""Opens a camera; takes how many seconds it may be silent; raises `SourceError` where there is none."""


def live_opener(settings: CameraSettings) -> Opener | None:
    """What opens the camera of these settings; None where it is a recording.

    Raises:
        SourceError: this installation cannot read such cameras at all.

    """
    spec = settings.spec
    if is_pipeline(spec):
        if not capture.has_gstreamer():
            raise SourceError(
                "GStreamer pipeline: this OpenCV was built without GStreamer, as the one of PyPI is; "
                "build OpenCV with it, or give the camera's rtsp:// address"
            )
        return lambda silence_s: _open_pipeline(spec.removeprefix(PIPELINE_PREFIX), silence_s)
    if spec.startswith(GENICAM_PREFIX):
        check_genicam(spec)
        return lambda silence_s: Opened(GenicamCapture(spec, silence_s), silence_s)
    if URL.match(spec):
        return lambda silence_s: _open_url(settings, silence_s)
    if is_device(spec):
        return lambda silence_s: _open_device(spec, silence_s)
    return None


def _open_url(settings: CameraSettings, silence_s: float) -> Opened:
    url = settings.spec
    started_s = time.monotonic()
    # RTSP alone carries the sender's clock; FFmpeg makes up the stamps of others from a rate it guesses.
    rtsp = url.lower().startswith(("rtsp://", "rtsps://"))
    if rtsp:
        opened = capture.open_rtsp(url, settings.transport, settings.open_timeout_s, silence_s)
    else:
        opened = capture.open_url(url, settings.open_timeout_s, silence_s)
    if opened is not None:
        patience_s = max(silence_s, capture.FIRST_IMAGE_S) if rtsp else silence_s
        return Opened(opened, patience_s, stamped=rtsp, clocked=rtsp and settings.stream_clock)
    address = without_secrets(url)
    timeout_s = min(settings.open_timeout_s, silence_s) if rtsp else settings.open_timeout_s
    if time.monotonic() - started_s >= 0.9 * timeout_s:
        raise SourceError(
            f"{address}: no video from there within {timeout_s:g} s; is the camera on, and its address right?"
        )
    refusal = why_refused(url, REFUSAL_TIMEOUT_S)
    if refusal is None:
        raise SourceError(
            f"{address}: no video from there; is it a camera, and are address, user and password right?"
        )
    error = RefusedError if refusal.credentials else SourceError
    raise error(f"{address}: no video from there: {refusal.reason}")


def _open_device(spec: str, silence_s: float) -> Opened:
    opened = capture.open_device(int(spec) if spec.isdecimal() else spec)
    if opened is None:
        there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"{spec}: no camera there that can be opened (cameras here: {there})")
    # V4L2 gives the driver's own time stamp of the buffer.
    return Opened(opened, silence_s, stamped=True)


def _open_pipeline(pipeline: str, silence_s: float) -> Opened:
    opened = capture.open_pipeline(pipeline)
    if opened is None:
        raise SourceError(
            "GStreamer pipeline: it does not start; does it end in appsink, and does gst-launch-1.0 run it?"
        )
    return Opened(opened, silence_s)
