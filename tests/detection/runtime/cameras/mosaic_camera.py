"""A camera kind that Swath does not have, as somebody would add it: this file, and a line in `KINDS`."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from pydantic import Field

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

_PREFIX = "mosaic:"


class MosaicSettings(CameraSettings):
    """How to read a mosaic."""

    side_px: int = Field(64, ge=8, description="of each image")


class Mosaic(Source):
    """One image for each level of grey in a text file."""

    live, fps, dropped, unreadable = False, None, 0, 0

    def __init__(self, path: Path, camera: str, side_px: int) -> None:
        if not path.is_file():
            raise SourceError(f"{path}: there is no such mosaic")
        self.camera, self.ended, self._side_px = camera, False, side_px
        self._levels = [int(level) for level in path.read_text().split()]
        self.length = len(self._levels)

    def poll(self, timeout_s: float) -> Frame | None:
        if not self._levels:
            self.ended = True
            return None
        image = np.full((self._side_px, self._side_px, 3), self._levels.pop(0), np.uint8)
        return Frame(image, self.camera, self.length - len(self._levels) - 1, time.monotonic_ns())

    def close(self) -> None:
        self.ended = True


def _open(settings: MosaicSettings, camera: str, on_event: Listener | None) -> Source:
    return Mosaic(Path(settings.source.removeprefix(_PREFIX)), camera, settings.side_px)


KIND = CameraKind(
    "mosaic", "mosaic:FILE", lambda source: source.startswith(_PREFIX), _open, live=False, settings=MosaicSettings
)
