"""Folders of images, and single images."""

from __future__ import annotations

from pathlib import Path

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener


def _matches(source: str) -> bool:
    from detection.runtime.cameras.recordings import is_image

    path = Path(source).expanduser()
    return path.is_dir() or (path.is_file() and is_image(path))


def _open(settings: CameraSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.recordings import ImageFolder

    return ImageFolder(Path(settings.source).expanduser(), camera)


KIND = CameraKind(
    "image folder",
    "image folder",
    _matches,
    _open,
    live=False,
    path=lambda source: Path(source).expanduser(),
)
