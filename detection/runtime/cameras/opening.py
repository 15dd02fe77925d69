"""How live cameras are opened: supervised, or once; and why a camera at a URL gives no video."""

from __future__ import annotations

import cv2

from detection.runtime.cameras.connection import REFUSAL_TIMEOUT_S, RefusedError
from detection.runtime.cameras.live import Connect, LiveSource
from detection.runtime.cameras.names import without_secrets
from detection.runtime.cameras.recordings import VideoFile
from detection.runtime.cameras.refusals import why_refused
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener


def open_live(connect: Connect, camera: str, settings: LiveSettings, on_event: Listener | None) -> LiveSource:
    """A live camera, as `CameraKind.opens` gives it.

    Args:
        connect: opens the camera.
        camera: its name in outputs.
        settings: how to read it.
        on_event: receives each change of its status. None: it is opened here and now, and ends when it is lost.

    Raises:
        SourceError: it was to be opened here and now, and is not there.

    """
    if on_event is not None:
        return LiveSource(connect, camera, settings, on_event=on_event)
    opened = connect(settings.read_timeout_s)
    return LiveSource(lambda _: opened, camera, settings, retry=False)


def open_network(connect: Connect, camera: str, settings: LiveSettings, on_event: Listener | None) -> Source:
    """A network stream; where it is opened here and now and has an end, it is read like a file.

    Args:
        connect: opens the stream.
        camera: its name in outputs.
        settings: how to read it.
        on_event: receives each change of its status; None opens it here and now, without supervision.

    Raises:
        SourceError: not supervised, and not there.

    """
    if on_event is not None:
        return open_live(connect, camera, settings, on_event)
    opened = connect(settings.read_timeout_s)
    if opened.capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return VideoFile(opened.capture, without_secrets(settings.source), camera, settings.max_fps)
    return LiveSource(lambda _: opened, camera, settings, retry=False)


def no_video(url: str, took_s: float, timeout_s: float) -> SourceError:
    """The error that says why a URL gave no video; asks it once more where it answered at once.

    Args:
        url: with user and password, where there are any; the message holds neither.
        took_s: how long opening took.
        timeout_s: how long it may have taken.

    """
    address = without_secrets(url)
    if took_s >= 0.9 * timeout_s:
        return SourceError(
            f"{address}: no video from there within {timeout_s:g} s; is the camera on, and its address right?"
        )
    refusal = why_refused(url, REFUSAL_TIMEOUT_S)
    if refusal is None:
        return SourceError(
            f"{address}: no video from there; is it a camera, and are address, user and password right?"
        )
    error = RefusedError if refusal.credentials else SourceError
    return error(f"{address}: no video from there: {refusal.reason}")
