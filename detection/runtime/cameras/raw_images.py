"""`RawImages`: images without a container from standard input, as another program writes them."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from typing import TYPE_CHECKING

from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detection.runtime.detections import Frame

_PREFIX = "raw:"
_SPEC = re.compile(r"(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?(?::(\w+))?")

_FORMATS: dict[str, tuple[int, str | None]] = {
    "bgr24": (3, None),
    "rgb24": (3, "COLOR_RGB2BGR"),
    "yuyv422": (2, "COLOR_YUV2BGR_YUYV"),
    "gray": (1, "COLOR_GRAY2BGR"),
    "bayer_rggb8": (1, "COLOR_BayerRGGB2BGR"),
    # One luma value per pixel; below, half as many rows again, the chroma of 2 x 2 pixels.
    "yuv420p": (1, "COLOR_YUV2BGR_I420"),
    "nv12": (1, "COLOR_YUV2BGR_NV12"),
}
"""FFmpeg's names: channels, and the name of OpenCV's conversion."""

_PIXELS_AT_MOST = 2**28

_WITH_COLOUR_ROWS = frozenset({"yuv420p", "nv12"})


class RawImages(Source):
    """Every image that comes in, in order; a faster writer waits.

    Args:
        spec: `raw:WIDTHxHEIGHT[@FPS][:FORMAT]`, FORMAT by FFmpeg's names: bgr24 (where none is given),
            rgb24, gray, yuv420p, nv12, yuyv422, bayer_rggb8. FPS is only recorded.
        camera: its name in outputs.
        descriptor: to read from, standard input by default; closed by its owner.

    Raises:
        SourceError: the spec cannot be parsed.

    """

    live = False
    length = None
    dropped = 0
    unreadable = 0

    def __init__(self, spec: str, camera: str, descriptor: int | None = None) -> None:
        import numpy as np

        found = _SPEC.fullmatch(spec.removeprefix(_PREFIX))
        kind = (found and found[4]) or "bgr24"
        if found is None or kind not in _FORMATS:
            raise SourceError(f"{spec}: write raw:WIDTHxHEIGHT[@FPS][:FORMAT], FORMAT one of {' '.join(_FORMATS)}")
        width, height = int(found[1]), int(found[2])
        channels, self._conversion = _FORMATS[kind]
        paired = kind in _WITH_COLOUR_ROWS or channels == 2
        if not 0 < width * height <= _PIXELS_AT_MOST or (paired and (width % 2 or height % 2)):
            raise SourceError(f"{spec}: {width}x{height} is no size of an image in {kind}")
        rows = height * 3 // 2 if kind in _WITH_COLOUR_ROWS else height
        self._shape = (rows, width) if channels == 1 else (rows, width, channels)
        self.camera = camera
        self.fps = float(found[3]) if found[3] else None
        self.ended = False
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._index = 0
        self._have = 0
        self._buffer = np.empty(self._shape, np.uint8)

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image, or None where it did not come whole within `timeout_s` seconds, or at the end.

        Raises:
            SourceError: the stream ended in the middle of an image.

        """
        from detection.runtime.detections import Frame

        until_s = time.monotonic() + timeout_s
        while not self.ended:
            if not select.select([self._descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
                return None
            got = os.readv(self._descriptor, [self._buffer.reshape(-1)[self._have :].data])
            self._have += got
            if got == 0:
                self.ended = True
                if self._have:
                    raise SourceError(
                        f"{self.camera}: ended in the middle of image {self._index}; "
                        "are size and format those of the writer?"
                    )
                return None
            if self._have == self._buffer.nbytes:
                captured_ns = time.monotonic_ns()
                frame = Frame(self._image(), self.camera, self._index, captured_ns)
                self._index += 1
                self._have = 0
                return frame
        return None

    def _image(self) -> NDArray[np.uint8]:
        import cv2
        import numpy as np

        full, self._buffer = self._buffer, np.empty(self._shape, np.uint8)
        if self._conversion is None:
            return full
        return np.asarray(cv2.cvtColor(full, getattr(cv2, self._conversion)), np.uint8)

    def close(self) -> None:
        """Stop reading."""
        self.ended = True


def _open(settings: CameraSettings, camera: str, on_event: Listener | None) -> Source:
    return RawImages(settings.source, camera)


KIND = CameraKind(
    "raw",
    "raw:WxH@FPS:bgr24 (standard input)",
    lambda source: source.startswith(_PREFIX),
    _open,
    live=False,
    complete=False,
    default_name=lambda source: "stdin",
)
