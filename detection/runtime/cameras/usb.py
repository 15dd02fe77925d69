"""Cameras of this machine: USB, CSI and what else its drivers offer (V4L2 on Linux)."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

if TYPE_CHECKING:
    from detection.runtime.cameras.connection import Opened

_DEVICE = re.compile(r"\d+|/dev/\S+")


def _connect(settings: LiveSettings, silence_s: float) -> Opened:
    from detection.runtime.cameras import capture
    from detection.runtime.cameras.connection import Opened

    device = settings.source
    opened = capture.open_device(int(device) if device.isdecimal() else device)
    if opened is None:
        there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise SourceError(f"{device}: no camera there that can be opened (cameras here: {there})")
    # V4L2 gives the driver's own time stamp of the buffer.
    return Opened(opened, silence_s, stamped=True)


def _open(settings: LiveSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.opening import open_live

    return open_live(partial(_connect, settings), camera, settings, on_event)


KIND = CameraKind(
    "usb",
    "camera index or /dev path",
    lambda source: _DEVICE.fullmatch(source) is not None,
    _open,
    live=True,
    complete=False,
    settings=LiveSettings,
    default_name=lambda source: f"camera-{source}" if source.isdecimal() else Path(source).stem,
    path=lambda source: None if source.isdecimal() else Path(source),
)
