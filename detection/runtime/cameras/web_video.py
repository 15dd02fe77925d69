"""Finished videos on a web server: read like files, from the first image to the last."""

from __future__ import annotations

from functools import partial

from detection.runtime.cameras.http import connect
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.names import without_secrets
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener


def _matches(source: str) -> bool:
    from detection.runtime.cameras.recordings import is_video_name

    return source.lower().startswith(("http://", "https://")) and is_video_name(without_secrets(source))


def _open(settings: LiveSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.opening import open_network

    return open_network(partial(connect, settings), camera, settings, on_event=None)


KIND = CameraKind(
    "web video",
    "URL of a video",
    _matches,
    _open,
    live=False,
    settings=LiveSettings,  # whatever its name, it may turn out to be a camera
    default_name=without_secrets,
)
