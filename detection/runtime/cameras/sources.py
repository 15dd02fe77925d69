"""Where pictures come from: `open_source` recognises a camera, stream, video or picture folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2

from detection.runtime.cameras import capture
from detection.runtime.cameras.live import LiveSource
from detection.runtime.cameras.recordings import PictureFolder, VideoFile, is_picture
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


def open_source(
    spec: str | Path,
    *,
    camera: str | None = None,
    open_timeout_s: float = capture.OPEN_TIMEOUT_S,
    read_timeout_s: float = capture.READ_TIMEOUT_S,
) -> Source:
    """Open a source by what the user wrote.

    Args:
        spec: a camera index ("0"), a device ("/dev/video0"), a URL (rtsp, http, https, ...), a video
            file, a picture file, or a folder of pictures. A URL that leads to a finished recording
            is read like a file, any other is live.
        camera: its name in outputs; None derives one: "camera-0", "video0", host and path without
            user, password and query, the folder's name, the file's name without suffix.
        open_timeout_s: for URLs: how long the answer may take.
        read_timeout_s: for URLs: how long one picture may take.

    Raises:
        SourceError: nothing there, or nothing that can be read.

    """
    text = str(spec)
    name = camera or camera_name(text)
    if _URL.match(text):
        address = without_secrets(text)
        opened = capture.open_url(text, open_timeout_s, read_timeout_s)
        if opened is None:
            raise SourceError(
                f"{address}: no video from there within {open_timeout_s:g} s; "
                "is the camera on, and are address, user and password right?"
            )
        if opened.get(cv2.CAP_PROP_FRAME_COUNT) > 0:
            return VideoFile(opened, address, name)
        return LiveSource(opened, name, read_timeout_s=read_timeout_s)
    if _is_device(text):
        opened = capture.open_device(int(text) if text.isdecimal() else text)
        if opened is None:
            raise SourceError(f"{text}: no camera there that can be opened (cameras here: {_cameras()})")
        return LiveSource(opened, name)
    path = Path(text).expanduser()
    if path.is_dir() or (path.is_file() and is_picture(path)):
        return PictureFolder(path, name)
    if not path.exists():
        raise SourceError(f"{text}: there is no such video, folder or camera")
    opened = capture.open_file(str(path))
    if opened is None:
        raise SourceError(f"{text}: not a video that can be read")
    return VideoFile(opened, text, name)


def open_sources(specs: Sequence[str | Path]) -> list[Source]:
    """Open several sources, all or none, with names that differ ("left", "left-2").

    Raises:
        SourceError: one of them cannot be opened; those before it are closed again.

    """
    with ExitStack() as opened:
        sources: list[Source] = []
        taken: set[str] = set()
        for spec in specs:
            name = unique = camera_name(str(spec))
            count = 1
            while unique in taken:
                count += 1
                unique = f"{name}-{count}"
            taken.add(unique)
            sources.append(opened.enter_context(open_source(spec, camera=unique)))
        opened.pop_all()
        return sources


def camera_name(spec: str) -> str:
    """The name in outputs that a source has by default; never holds a password."""
    if _URL.match(spec):
        return without_secrets(spec)
    if spec.isdecimal():
        return f"camera-{spec}"
    path = Path(spec).expanduser()
    return path.resolve().name if path.is_dir() else path.stem


def without_secrets(url: str) -> str:
    """Host and path of a URL: what may be shown. User, password, query and fragment are left out."""
    rest = _URL.sub("", url, count=1)
    # The last @ of all, not of the host alone: passwords with / and ? in them are pasted as they are.
    rest = rest.rpartition("@")[2]
    return re.split(r"[?#]", rest, maxsplit=1)[0].rstrip("/")


def _is_device(spec: str) -> bool:
    return spec.isdecimal() or spec.startswith("/dev/")


def _cameras() -> str:
    return ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
