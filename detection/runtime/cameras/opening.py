"""How live cameras are opened: supervised, or once; and why a camera at a URL gives no video."""

from __future__ import annotations

from http.client import HTTPException

import cv2

from detection.runtime.cameras.connection import REFUSAL_TIMEOUT_S, Opened, RefusedError
from detection.runtime.cameras.live import Connect, LiveSource
from detection.runtime.cameras.names import without_secrets
from detection.runtime.cameras.recordings import VideoFile
from detection.runtime.cameras.refusals import (
    Refusal,
    refusal_of_error,
    refusal_of_kinds,
    refusal_of_status,
    unreachable,
    why_refused,
)
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.web import Answer, get
from detection.runtime.cameras.web_images import SNAPSHOTS_A_SECOND, MotionJpeg, Snapshots, images_of
from detection.runtime.deadline import Deadline
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

_PAGES = frozenset(("text/html", "application/xhtml+xml", "application/json", "text/xml", "application/xml"))


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


def open_images(settings: LiveSettings, silence_s: float) -> Opened | None:
    """Ask an http or https address itself: images by HTTP, opened; None where it may be a video for FFmpeg.

    However long an address takes, other cameras do not wait: FFmpeg is asked only for what has answered.

    Args:
        settings: of the camera.
        silence_s: how long it may be silent afterwards.

    Raises:
        SourceError: no answer, or one that is no video.

    """
    shown, timeout_s = without_secrets(settings.source), settings.open_timeout_s
    with Deadline(timeout_s) as deadline:
        try:
            answer = get(settings.source, deadline)
        except HTTPException:
            return None
        except (OSError, ValueError) as error:
            raise _no_video(shown, refusal_of_error(error, timeout_s, deadline), timeout_s) from None
        opened = None
        try:
            opened = _images(answer, settings, shown, silence_s)
            deadline.check()
        except (OSError, ValueError, HTTPException) as error:
            raise _no_video(shown, refusal_of_error(error, timeout_s, deadline), timeout_s) from None
        finally:
            if opened is None or isinstance(opened.capture, Snapshots):
                answer.close()
    return opened


def _images(answer: Answer, settings: LiveSettings, shown: str, silence_s: float) -> Opened | None:
    refusal = refusal_of_kinds(answer.kinds) if answer.unknown_kinds else refusal_of_status(answer.status)
    if refusal is not None:
        raise _no_video(shown, refusal, settings.open_timeout_s)
    if answer.content_type in _PAGES:
        raise SourceError(f"{shown}: no video from there: it answers with a page ({answer.content_type})")
    found = images_of(answer)
    if found is None:
        return None
    content, is_all = found
    if not is_all:
        answer.limit_silence(silence_s)
        return Opened(MotionJpeg(answer, silence_s, content), silence_s)
    snapshots = Snapshots(settings.source, content, 1 / (settings.max_fps or SNAPSHOTS_A_SECOND), silence_s)
    return Opened(snapshots, 2 * silence_s, unchanged=lambda: snapshots.unchanged, paced=True)


def check_it_answers(url: str, within_s: float) -> None:
    """Ask an RTSP camera whether it answers at all, before FFmpeg is asked.

    Raises:
        SourceError: it does not.

    """
    refusal = unreachable(url, within_s)
    if refusal is not None:
        raise _no_video(without_secrets(url), refusal, within_s)


def no_video(url: str, took_s: float, timeout_s: float) -> SourceError:
    """The error that says why a URL gave no video; asks it once more where it answered at once.

    Args:
        url: with user and password, where there are any; the message holds neither.
        took_s: how long opening took.
        timeout_s: how long it may have taken.

    """
    shown = without_secrets(url)
    if took_s >= 0.9 * timeout_s:
        return _no_video(shown, Refusal("", silent=True), timeout_s)
    refusal = why_refused(url, REFUSAL_TIMEOUT_S)
    if refusal is None:
        return SourceError(f"{shown}: no video from there; is it a camera, and are address, user and password right?")
    return _no_video(shown, refusal, REFUSAL_TIMEOUT_S)


def _no_video(shown: str, refusal: Refusal, timeout_s: float) -> SourceError:
    if refusal.silent:
        return SourceError(
            f"{shown}: no video from there within {timeout_s:g} s; is the camera on, and its address right?"
        )
    error = RefusedError if refusal.credentials else SourceError
    return error(f"{shown}: no video from there: {refusal.reason}")
