"""IP cameras by RTSP."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from detection.runtime.addresses import readable_url
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.names import without_secrets
from detection.runtime.cameras.settings import LiveSettings, Transport
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener

if TYPE_CHECKING:
    from detection.runtime.cameras.connection import Opened


class RtspSettings(LiveSettings):
    """How to read an RTSP camera."""

    transport: Transport = Field(
        "tcp", description="of RTSP: tcp loses no packets, and is late on a poor network; udp is the other way round"
    )
    stream_clock: bool = Field(
        True,
        description="of RTSP: detect late images by the stream's own time stamps; false where they do not follow the "
        "clock: then an image's age counts from its arrival",
    )


def _connect(settings: RtspSettings, silence_s: float) -> Opened:
    from detection.runtime.cameras import capture
    from detection.runtime.cameras.connection import Opened
    from detection.runtime.cameras.ffmpeg_options import USERS_OPTIONS
    from detection.runtime.cameras.opening import check_it_answers, no_video

    timeout_s = min(settings.open_timeout_s, silence_s)
    if USERS_OPTIONS is None:  # the user's own may lead another way to the camera
        check_it_answers(settings.source, timeout_s)
    started_s = time.monotonic()
    opened = capture.open_rtsp(readable_url(settings.source), settings.transport, settings.open_timeout_s, silence_s)
    if opened is None:
        raise no_video(settings.source, time.monotonic() - started_s, timeout_s)
    patience_s = max(silence_s, capture.FIRST_IMAGE_S)
    return Opened(opened, patience_s, stamped=True, clocked=settings.stream_clock)


def _open(settings: RtspSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.opening import open_network

    return open_network(partial(_connect, settings), camera, settings, on_event)


KIND = CameraKind(
    "rtsp",
    "rtsp://HOST/PATH",
    lambda source: source.lower().startswith(("rtsp://", "rtsps://")),
    _open,
    live=True,
    complete=False,
    settings=RtspSettings,
    default_name=without_secrets,
)
