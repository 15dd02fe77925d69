"""`open_source` and `open_sources`: any camera, stream, video, recording or image folder, by what the user wrote."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detection.runtime import cameras
from detection.runtime.cameras.live import LiveSource
from detection.runtime.cameras.names import different
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError, one_line
from detection.runtime.events import Listener, ignore_event
from detection.runtime.settings import explain

__all__ = [
    "camera_name",
    "camera_settings",
    "close_sources",
    "is_recording",
    "open_source",
    "open_sources",
    "stop_sources",
]


def camera_settings(source: str | Path, **settings: Any) -> CameraSettings:
    """The settings of one source, of the kind that it is.

        left = camera_settings("rtsp://farm:PASSWORD@10.0.0.7/stream1", name="left", transport="udp", max_fps=15)
        sources = open_sources([left, "/dev/video0"])

    Args:
        source: as `open_source` takes it.
        settings: `name`, and the settings of its kind: `max_fps`, `open_timeout_s`, `read_timeout_s`, `max_age_s`,
            `transport`, `stream_clock`; `docs/robot/cameras.md` has them all.

    Raises:
        SourceError: a setting that its kind does not have, or a value of the wrong type or range.

    """
    kind = cameras.kind_of(str(source))
    try:
        return kind.settings(source=str(source), **settings)
    except ValidationError as error:
        faults = "; ".join(explain(fault, kind.settings) for fault in error.errors())
        raise SourceError(f"{camera_name(str(source))} ({kind.name}): {faults}") from None


def open_source(source: str | Path | CameraSettings, **settings: Any) -> Source:
    """Open one source by what the user wrote. A live one is not reopened: when it is lost it has ended.

        with open_source("rtsp://10.0.0.7/stream1", max_fps=10) as source:
            for frame in source:
                print(frame.camera, frame.index, detector(frame.image).boxes_xyxy)

    Args:
        source: what to read:

            - a camera index ("0") or device ("/dev/video0");
            - a URL (rtsp, http, https, ...); one that leads to a finished video is read like a file;
            - a GStreamer pipeline that ends in appsink ("gst:..." or "a ! b ! appsink");
            - a GenICam camera ("genicam:PRODUCER.cti#SERIAL");
            - raw images from standard input ("raw:1280x720@30:bgr24");
            - a video file, an image file, or a folder of images;
            - an .mcap, a ROS 1 .bag or a ROS 2 bag's folder, with "#/topic" where it has several;

            or the `camera_settings` of one.
        settings: as `camera_settings` takes them; none where `source` has its own.

    Raises:
        SourceError: nothing there, or nothing that can be read, or a wrong setting.

    """
    return _opened(_settings(source, **settings), on_event=None)


def open_sources(
    sources: Sequence[str | Path | CameraSettings], *, on_event: Listener = ignore_event
) -> list[Source]:
    """Open several sources, with names that differ ("left", "left-2").

    Live ones are supervised: this returns at once, whether they are there or not, and each is opened,
    and reopened where it is lost, in the background. Recordings are opened here, all or none.

    Args:
        sources: each as `open_source` takes it.
        on_event: receives each change of a live one's status; called from their threads.

    Raises:
        SourceError: a recording cannot be opened, or this installation cannot read such a source at
            all; those before it are closed again.

    """
    with ExitStack() as opened:
        found: list[Source] = []
        wanted = [_settings(one) for one in sources]
        names = different([one.name or camera_name(one.source) for one in wanted])
        for settings, name in zip(wanted, names, strict=True):
            one = _opened(settings.model_copy(update={"name": name}), on_event)
            found.append(opened.enter_context(one))
        opened.pop_all()
        return found


def stop_sources(sources: Sequence[Source]) -> None:
    """Let cameras end, without waiting for them; each publishes that it has ended."""
    for source in sources:
        if isinstance(source, LiveSource):
            source.stop()


def close_sources(sources: Sequence[Source]) -> None:
    """Close several sources; those that do not answer cost a moment once, not each."""
    stop_sources(sources)
    for source in sources:
        source.close()


def camera_name(source: str) -> str:
    """The name in outputs that a source has by default; printable; never holds a password."""
    return one_line(cameras.kind_of(source).default_name(source))  # a file's may hold escape codes


def is_recording(source: str) -> bool:
    """Whether all images of a source are there from the start: a file or folder, here or at a URL of a video."""
    return cameras.kind_of(source).complete


def _settings(source: str | Path | CameraSettings, **settings: Any) -> CameraSettings:
    if not isinstance(source, CameraSettings):
        return camera_settings(source, **settings)
    if settings:
        raise SourceError(f"{', '.join(settings)}: belongs into the camera_settings that are given")
    return source


def _opened(settings: CameraSettings, on_event: Listener | None) -> Source:
    kind = cameras.kind_of(settings.source)
    if (missing := kind.missing(settings.source)) is not None:
        raise SourceError(missing)
    return kind.opens(settings, settings.name or camera_name(settings.source), on_event)
