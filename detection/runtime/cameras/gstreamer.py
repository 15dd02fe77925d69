"""GStreamer pipelines that end in `appsink`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

if TYPE_CHECKING:
    from detection.runtime.cameras.connection import Opened

_PREFIX = "gst:"


def _missing(source: str) -> str | None:
    from detection.runtime.cameras import capture

    if capture.has_gstreamer():
        return None
    return (
        "GStreamer pipeline: this OpenCV was built without GStreamer, as the one of PyPI is; "
        "build OpenCV with it, or give the camera's rtsp:// address"
    )


def _connect(settings: LiveSettings, silence_s: float) -> Opened:
    from detection.runtime.cameras import capture
    from detection.runtime.cameras.connection import Opened

    opened = capture.open_pipeline(settings.source.removeprefix(_PREFIX))
    if opened is None:
        raise SourceError(
            "GStreamer pipeline: it does not start; does it end in appsink, and does gst-launch-1.0 run it?"
        )
    return Opened(opened, silence_s)


def _open(settings: LiveSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.opening import open_live

    return open_live(partial(_connect, settings), camera, settings, on_event)


KIND = CameraKind(
    "gstreamer",
    "gst:PIPELINE",
    lambda source: source.startswith(_PREFIX) or " ! " in source,
    _open,
    live=True,
    complete=False,
    settings=LiveSettings,
    default_name=lambda source: "gstreamer",  # not the pipeline: the address in it may hold a password
    missing=_missing,
)
