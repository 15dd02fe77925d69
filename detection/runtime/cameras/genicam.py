"""GenICam cameras (GigE Vision, USB3 Vision, CoaXPress) through `harvesters` and the vendor's GenTL producer."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import LiveSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

if TYPE_CHECKING:
    from detection.runtime.cameras.connection import Opened

_PREFIX = "genicam:"
_CONVERSIONS: dict[str, str | None] = {
    "BGR8": None,
    "RGB8": "COLOR_RGB2BGR",
    "Mono8": "COLOR_GRAY2BGR",
    "BayerRG8": "COLOR_BayerRGGB2BGR",
    "BayerBG8": "COLOR_BayerBGGR2BGR",
    "BayerGB8": "COLOR_BayerGBRG2BGR",
    "BayerGR8": "COLOR_BayerGRBG2BGR",
}
"""Pixel formats of the standard that are read, and the name of OpenCV's conversion."""

_log = logging.getLogger(__name__)


def _missing(source: str) -> str | None:
    try:
        import harvesters.core  # noqa: F401 # only whether it is there
    except ImportError:
        return f"{source}: GenICam cameras need: pip install harvesters"
    producer = Path(source.removeprefix(_PREFIX).partition("#")[0])
    if producer.is_file():
        return None
    return f"{source}: write genicam:PRODUCER.cti#SERIAL; {producer} is not there (the camera's driver includes it)"


class GenicamCapture:
    """A GenICam camera as a `Capture`. Experimental: it has not been tried with a real camera.

    Args:
        spec: `genicam:PRODUCER.cti` or `genicam:PRODUCER.cti#SERIAL`.
        read_timeout_s: how long one image may take.

    Raises:
        SourceError: no such camera.

    """

    def __init__(self, spec: str, read_timeout_s: float) -> None:
        from harvesters.core import Harvester

        producer, _, serial = spec.removeprefix(_PREFIX).partition("#")
        self._read_timeout_s = read_timeout_s
        self._image: Any = None
        self._spec = spec
        self._unread: str | None = None
        self._harvester: Any = Harvester()
        try:
            self._harvester.add_file(producer)
            self._harvester.update()
            self._camera: Any = self._harvester.create({"serial_number": serial} if serial else 0)
            # The newest image, not a queue of them.
            self._camera.num_buffers = 3
            self._camera.start()
        except Exception as error:  # the library's own and its producer's
            self._harvester.reset()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise SourceError(f"{spec}: no camera there that can be opened ({reason})") from None

    def grab(self) -> bool:
        """Wait for the next image; False where none came in time."""
        import cv2
        import numpy as np

        self._image = None
        buffer = self._camera.try_fetch(timeout=self._read_timeout_s)
        if buffer is None:
            return False
        # Copied before the buffer goes back to the driver, which fills it again.
        try:
            component = buffer.payload.components[0]
            kind, height, width = component.data_format, component.height, component.width
            if kind in _CONVERSIONS:
                shape = (height, width, 3) if kind in ("BGR8", "RGB8") else (height, width)
                pixels = np.asarray(component.data, np.uint8).reshape(shape)
                conversion = _CONVERSIONS[kind]
                self._image = pixels.copy() if conversion is None else cv2.cvtColor(pixels, getattr(cv2, conversion))
            elif kind != self._unread:
                self._unread = kind
                _log.warning(
                    "%s: pixel format %s is not read; set one of %s", self._spec, kind, ", ".join(_CONVERSIONS)
                )
        finally:
            buffer.queue()
        return True

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the image's format is one that is read, and the image."""
        return self._image is not None, self._image

    def get(self, propId: int, /) -> float:
        """Always 0: nothing is known by OpenCV's properties."""
        return 0.0

    def release(self) -> None:
        """Stop the camera and release it."""
        self._camera.stop()
        self._camera.destroy()
        self._harvester.reset()


def _open(settings: LiveSettings, camera: str, on_event: Listener | None) -> Source:
    from detection.runtime.cameras.connection import Opened
    from detection.runtime.cameras.opening import open_live

    def connect(silence_s: float) -> Opened:
        return Opened(GenicamCapture(settings.source, silence_s), silence_s)

    return open_live(connect, camera, settings, on_event)


KIND = CameraKind(
    "genicam",
    "genicam:PRODUCER.cti[#SERIAL]",
    lambda source: source.startswith(_PREFIX),
    _open,
    live=True,
    complete=False,
    settings=LiveSettings,
    default_name=lambda source: f"genicam-{source.rpartition('#')[2]}" if "#" in source else "genicam",
    missing=_missing,
)
