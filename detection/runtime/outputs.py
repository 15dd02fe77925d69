"""Where detections go: one JSON line per frame, and an annotated video."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.capture import quiet_opencv
from detection.runtime.detections import Detections, Frame
from detection.runtime.draw import annotate
from detection.runtime.errors import OutputError
from detection.runtime.letterbox import PAD_VALUE, placement

_log = logging.getLogger(__name__)

RECORD_SCHEMA = 1
"""Of the JSON lines; raised when a key changes its meaning or goes."""

DEFAULT_FPS = 25.0
"""Of the video, where the source states no rate."""

# Measured with OpenCV 5.0's FFmpeg at 640 x 480: mp4v 2 ms a frame, VP9 31 ms (15 times the price, and
# a WebM to play); H.264 and AV1 encoders are not in the wheel.
_CODEC = "mp4v"

FoundObject = TypedDict(
    "FoundObject",
    {"box_xyxy": list[float], "score": float, "label": int, "class": str, "track_id": int | None},
)
"""One detection of a record: `box_xyxy` in pixels of the camera's picture, to 0.01."""


class Record(TypedDict):
    """What is published of one frame; the JSON line.

    `captured_ns` is the monotonic clock of this machine when the picture was grabbed. `age_ms` is
    how old the picture was when this record was made. `latency_ms` says where that time went.
    """

    schema: int
    camera: str
    frame: int
    captured_ns: int
    age_ms: float
    latency_ms: dict[str, float]
    detections: list[FoundObject]


class Output(Protocol):
    """Something that takes every frame's detections; a context manager."""

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Take one frame.

        Raises:
            OutputError: it cannot be written.

        """

    def close(self) -> None:
        """Finish what was written, so that it is whole; safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_record(
    frame: Frame,
    detections: Detections,
    class_names: Sequence[str],
    *,
    age_ms: float,
    latency_ms: dict[str, float],
) -> Record:
    """The record of a frame; numbers are rounded to what they are good for."""
    tracks = detections.track_ids
    return {
        "schema": RECORD_SCHEMA,
        "camera": frame.camera,
        "frame": frame.index,
        "captured_ns": frame.captured_ns,
        "age_ms": round(age_ms, 3),
        "latency_ms": {stage: round(ms, 3) for stage, ms in latency_ms.items()},
        "detections": [
            {
                "box_xyxy": [round(v, 2) for v in box],
                "score": round(score, 4),
                "label": label,
                "class": class_names[label],
                "track_id": None if tracks is None else int(tracks[i]),
            }
            # tolist: Python's own numbers, many times faster to round than numpy's.
            for i, (box, score, label) in enumerate(
                zip(
                    detections.boxes.tolist(),
                    detections.scores.tolist(),
                    detections.labels.tolist(),
                    strict=True,
                )
            )
        ],
    }


class JsonlOutput(Output):
    """One JSON object per line and frame. A line is written whole by one call, or not at all.

    So a file that is being written can be followed, and one whose writer was killed can be read.
    What stood at the path is replaced; missing folders are made.

    Raises:
        OutputError: the file cannot be written.

    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: one write() call of the operating system per line.
            self._file = self.path.open("wb", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
        self._end = 0

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Append the record's line.

        Raises:
            OutputError: it cannot be written (disk full); the lines before it stay whole.

        """
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):  # a full disk takes the part that fits
                self._file.truncate(self._end)
                raise OSError(None, "disk full")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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


def per_camera(path: Path, camera: str) -> Path:
    """`field.mp4` and camera "left" -> `field-left.mp4`; what no file name may hold becomes "_"."""
    safe = re.sub(r"[^\w.-]+", "_", camera)
    return path.with_name(f"{path.stem}-{safe}{path.suffix}")


def _fit(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture of another size, whole, in a grey one of `size_hw`; an odd last row is cut off."""
    height, width = image.shape[:2]
    if 0 <= height - size_hw[0] <= 1 and 0 <= width - size_hw[1] <= 1:
        return np.ascontiguousarray(image[: size_hw[0], : size_hw[1]])
    scale_x, scale_y = placement((height, width), size_hw).scale_xy
    fitted = cv2.resize(image, (round(width * scale_x), round(height * scale_y)), interpolation=cv2.INTER_AREA)
    canvas: NDArray[Any] = np.full((*size_hw, 3), PAD_VALUE, np.uint8)
    canvas[: fitted.shape[0], : fitted.shape[1]] = fitted
    return canvas
