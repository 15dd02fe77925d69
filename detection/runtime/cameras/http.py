"""Cameras by HTTP (Motion JPEG, HLS, ...), and streams by whatever other protocol FFmpeg reads."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from detection.runtime.addresses import readable_url
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.names import URL, without_secrets
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener

if TYPE_CHECKING:
    from detection.runtime.cameras.connection import Opened


def connect(settings: LiveSettings, silence_s: float) -> Opened:
    """Open a URL; its images carry no clock: FFmpeg makes up their stamps from a rate that it guesses.

    Raises:
        SourceError: no video from there.

    """
    from detection.runtime.cameras import capture
    from detection.runtime.cameras.connection import Opened
    from detection.runtime.cameras.opening import no_video, open_images

    if settings.source.lower().startswith(("http://", "https://")):
        images = open_images(settings, silence_s)
        if images is not None:
            return images
    started_s = time.monotonic()
    opened = capture.open_url(readable_url(settings.source), settings.open_timeout_s, silence_s)
    if opened is None:
        raise no_video(settings.source, time.monotonic() - started_s, settings.open_timeout_s)
    return Opened(opened, silence_s)


def _open(settings: LiveSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.opening import open_network

    return open_network(partial(connect, settings), camera, settings, on_event)


KIND = CameraKind(
    "http",
    "http://HOST/PATH",
    lambda source: URL.match(source) is not None,
    _open,
    live=True,
    complete=False,
    settings=LiveSettings,
    default_name=without_secrets,
)
