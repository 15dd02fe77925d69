"""Where images come from: `open_source` recognises a camera, stream, video, recording or image folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2

from detection.runtime.cameras import capture
from detection.runtime.cameras.bags import BagImages, is_bag
from detection.runtime.cameras.live import LiveSource
from detection.runtime.cameras.names import (
    GENICAM_PREFIX,
    RAW_PREFIX,
    URL,
    camera_name,
    different,
    is_device,
    is_pipeline,
    without_secrets,
)
from detection.runtime.cameras.openers import live_opener
from detection.runtime.cameras.raw_images import RawImages
from detection.runtime.cameras.recordings import ImageFolder, VideoFile, is_image, is_video_name
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener, ignore_event

__all__ = ["camera_name", "close_sources", "is_recording", "open_source", "open_sources", "without_secrets"]


def open_source(source: str | Path | CameraSettings) -> Source:
    """Open one source by what the user wrote. A live one is not opened again: its loss is its end.

    Args:
        source: what to read, and how: a `CameraSettings`, or its `spec` alone:

            - a camera index ("0") or device ("/dev/video0");
            - a URL (rtsp, http, https, ...); one that leads to a finished recording is read like a file;
            - a GStreamer pipeline that ends in appsink ("gst:..." or "a ! b ! appsink");
            - a GenICam camera ("genicam:PRODUCER.cti#SERIAL");
            - raw images from standard input ("raw:1280x720@30:bgr24");
            - a video file, an image file, or a folder of images;
            - an .mcap, a ROS 1 .bag or a ROS 2 bag's folder, with "#/topic" where it has several.

    Raises:
        SourceError: nothing there, or nothing that can be read.

    """
    settings = source if isinstance(source, CameraSettings) else CameraSettings(str(source))
    name = settings.name or camera_name(settings.spec)
    opener = live_opener(settings)
    if opener is None:
        return _open_recording(settings, name)
    opened = opener(settings.read_timeout_s)  # here and now, so that a camera that is not there is an error
    if URL.match(settings.spec) and opened.capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
        return VideoFile(opened.capture, without_secrets(settings.spec), name, settings.max_fps)
    return LiveSource(lambda _: opened, name, settings, retry=False)


def open_sources(
    sources: Sequence[str | Path | CameraSettings], *, on_event: Listener = ignore_event
) -> list[Source]:
    """Open several sources, with names that differ ("left", "left-2").

    Live ones are supervised: this returns at once, whether they are there or not, and each is opened,
    and opened again where it is lost, beside the others. Recordings are opened here, all or none.

    Args:
        sources: each as `open_source` takes it.
        on_event: is told each change of a live one's status; called from their threads.

    Raises:
        SourceError: a recording cannot be opened, or this installation cannot read such a source at
            all; those before it are closed again.

    """
    with ExitStack() as opened:
        found: list[Source] = []
        asked = [one if isinstance(one, CameraSettings) else CameraSettings(str(one)) for one in sources]
        names = different([settings.name or camera_name(settings.spec) for settings in asked])
        for settings, unique in zip(asked, names, strict=True):
            settings = replace(settings, name=unique)
            opener = None if is_recording(settings.spec) else live_opener(settings)
            one = LiveSource(opener, unique, settings, on_event=on_event) if opener else open_source(settings)
            found.append(opened.enter_context(one))
        opened.pop_all()
        return found


def close_sources(sources: Sequence[Source]) -> None:
    """Close several sources; those that do not answer cost a moment once, not each."""
    for source in sources:
        if isinstance(source, LiveSource):
            source.stop()
    for source in sources:
        source.close()


def _open_recording(settings: CameraSettings, name: str) -> Source:
    spec = settings.spec
    if spec.startswith(RAW_PREFIX):
        return RawImages(spec, name)
    path = Path(spec).expanduser()
    bag, _, topic = str(path).partition("#")
    if not path.exists() and topic and is_bag(Path(bag)):
        return BagImages(Path(bag), topic, name, settings.max_fps)
    if is_bag(path):
        return BagImages(path, None, name, settings.max_fps)
    if path.is_dir() or (path.is_file() and is_image(path)):
        return ImageFolder(path, name)
    if not path.exists():
        raise SourceError(f"{spec}: there is no such video, folder or camera")
    opened = capture.open_file(str(path))
    if opened is None:
        raise SourceError(f"{spec}: not a video that can be read")
    return VideoFile(opened, spec, name, settings.max_fps)


def is_recording(spec: str) -> bool:
    """Whether a source is a file or folder, here or at a URL that names a video, for all that its name tells."""
    if spec.lower().startswith(("http://", "https://")):
        return is_video_name(without_secrets(spec))
    return not (
        spec.startswith((RAW_PREFIX, GENICAM_PREFIX)) or is_pipeline(spec) or URL.match(spec) or is_device(spec)
    )
