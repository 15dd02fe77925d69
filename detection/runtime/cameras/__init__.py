"""Where images come from. A kind of camera is one file here, and one line in `KINDS`.

The files of the kinds import OpenCV and numpy inside functions only: the help of `swath stream` lists all kinds, and
does not wait for them.
"""

from __future__ import annotations

from detection.runtime.cameras import (
    genicam,
    gstreamer,
    http,
    image_folder,
    mcap,
    raw_images,
    ros_bag,
    rtsp,
    usb,
    video_file,
    web_video,
)
from detection.runtime.cameras.kind import CameraKind

KINDS: tuple[CameraKind, ...] = (
    usb.KIND,
    gstreamer.KIND,
    genicam.KIND,
    raw_images.KIND,
    rtsp.KIND,
    web_video.KIND,
    http.KIND,
    mcap.KIND,
    ros_bag.KIND,
    image_folder.KIND,
    video_file.KIND,  # the last one: it takes what no other kind does
)
"""All kinds of cameras; a source is of the first one that matches."""


def kind_of(source: str) -> CameraKind:
    """The kind of a source, as the user wrote it."""
    return next(kind for kind in KINDS if kind.matches(source))


def source_forms() -> str:
    """How sources of all kinds are written, for help texts."""
    return ", ".join(kind.form for kind in KINDS)
