"""Video files."""

from __future__ import annotations

from pathlib import Path

from detection.runtime.addresses import looks_like_address, shown_address
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import RecordingSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener


def _open(settings: RecordingSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras import capture
    from detection.runtime.cameras.containers import lacks_its_index
    from detection.runtime.cameras.recordings import VideoFile

    path = Path(settings.source).expanduser()
    if not path.exists() and looks_like_address(settings.source):
        shown = shown_address(settings.source)
        raise SourceError(f"{shown}: there is no such file; an address begins with rtsp:// or http://")
    if not path.exists():
        raise SourceError(f"{settings.source}: there is no such video, folder or camera")
    opened = capture.open_file(str(path))
    if opened is None and lacks_its_index(path):
        raise SourceError(
            f"{settings.source}: not a video that can be read: its recorder was cut off, as by a power loss, before "
            "it wrote the table of images; untrunc rebuilds it, given a whole recording of the same camera"
        )
    if opened is None:
        raise SourceError(f"{settings.source}: not a video that can be read")
    return VideoFile(opened, settings.source, camera, settings.max_fps, path=path)


KIND = CameraKind(
    "video",
    "video file",
    lambda source: True,
    _open,
    live=False,
    settings=RecordingSettings,
    path=lambda source: Path(source).expanduser(),
)
