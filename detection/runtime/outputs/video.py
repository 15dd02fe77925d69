"""`VideoOutput`: the frames with their boxes drawn in, as a video."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.capture import quiet_opencv
from detection.runtime.detections import Detections, Frame
from detection.runtime.draw import annotate
from detection.runtime.errors import OutputError
from detection.runtime.letterbox import PAD_VALUE, placement
from detection.runtime.outputs.contract import Output, Record

_log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
"""Of the video, where the source states no rate."""

# Measured with OpenCV 5.0's FFmpeg at 640 x 480: mp4v 2 ms a frame, VP9 31 ms (15 times the price, and
# a WebM to play); H.264 and AV1 encoders are not in the wheel.
_CODEC = "mp4v"


class VideoOutput(Output):
    """The frames with their boxes drawn in, as an MP4 (MPEG-4 part 2) at a constant rate.

    It is written beside the target under a hidden name and renamed when closed, so the target is
    always a whole video. The first frame fixes the size; later ones of another size are fitted into it.

    Args:
        path: ends in .mp4; what stood there is replaced at the end; missing folders are made.
        class_names: by label.
        fps: pictures a second at which it plays; those that a live camera dropped are not in it.
        camera: takes this camera's frames only; None takes all.

    Raises:
        OutputError: the file cannot be written.

    """

    def __init__(
        self, path: Path | str, class_names: Sequence[str], *, fps: float | None, camera: str | None = None
    ) -> None:
        self.path = Path(path)
        self.camera = camera
        self._class_names = class_names
        self._fps = fps or DEFAULT_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size_hw = (0, 0)
        self._said = False
        if self.path.suffix.lower() != ".mp4":
            raise OutputError(f"{path}: the annotated video is an MP4, so its name must end in .mp4")
        self._part = self.path.with_name(f".{self.path.stem}.{os.getpid()}.part.mp4")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.touch()  # say now, not after the first frame, that the folder is read-only
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Draw and append one frame.

        Raises:
            OutputError: OpenCV cannot write such a video.

        """
        if self.camera not in (None, frame.camera):
            return
        hud = f"{frame.camera}  frame {frame.index}  {record['age_ms']:.0f} ms"
        drawn = annotate(frame.image, detections, self._class_names, hud)
        if self._writer is None:
            self._writer = self._open(drawn.shape[0], drawn.shape[1])
        if drawn.shape[:2] != self._size_hw:
            if not self._said and max(abs(a - b) for a, b in zip(drawn.shape, self._size_hw, strict=False)) > 1:
                self._said = True
                _log.warning(
                    "%s: pictures differ in size; fitted to the first one's %d x %d",
                    self.path,
                    self._size_hw[1],
                    self._size_hw[0],
                )
            drawn = _fit(drawn, self._size_hw)
        self._writer.write(drawn)

    def _open(self, height: int, width: int) -> cv2.VideoWriter:
        # Video codecs halve the colour's resolution: sizes must be even. A last odd row is cut off.
        self._size_hw = (max(2, height & ~1), max(2, width & ~1))
        with quiet_opencv():
            fourcc = cv2.VideoWriter.fourcc(*_CODEC)
            size_wh = (self._size_hw[1], self._size_hw[0])
            writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, fourcc, self._fps, size_wh)
        if not writer.isOpened():
            raise OutputError(f"{self.path}: this OpenCV cannot write a video of {width} x {height}")
        return writer

    def close(self) -> None:
        """Finish the video and give it its name; without a single frame there is none.

        Raises:
            OutputError: it cannot be renamed, or came out empty.

        """
        writer, self._writer = self._writer, None
        try:
            if writer is None:
                self._part.unlink(missing_ok=True)
                return
            writer.release()
            # OpenCV reports no failure to write: an empty file is the only trace of a full disk.
            if not self._part.stat().st_size:
                self._part.unlink()
                raise OutputError(f"{self.path}: the video came out empty; is the disk full?")
            self._part.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None


def _fit(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of another size, whole, in a grey one of `size_hw`; an odd last row is cut off."""
    height, width = image.shape[:2]
    if 0 <= height - size_hw[0] <= 1 and 0 <= width - size_hw[1] <= 1:
        return np.ascontiguousarray(image[: size_hw[0], : size_hw[1]])
    fitted_h, fitted_w = placement((height, width), size_hw).fitted_hw
    canvas: NDArray[Any] = np.full((*size_hw, 3), PAD_VALUE, np.uint8)
    canvas[:fitted_h, :fitted_w] = cv2.resize(image, (fitted_w, fitted_h), interpolation=cv2.INTER_AREA)
    return canvas
