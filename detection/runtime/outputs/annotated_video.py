"""`VideoOutput`: the frames with their boxes, as a video."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
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
from detection.runtime.outputs.mp4 import TICKS, FragmentedMp4, Samples, read_samples
from detection.runtime.outputs.naming import timed, unused
from detection.runtime.outputs.play_time import DEFAULT_FPS, PlayTime

_log = logging.getLogger(__name__)

# Measured with OpenCV 5.0's FFmpeg at 1280 x 720, CPU time a frame: mp4v 4.5 ms, MJPEG 7.5 ms (and eight times
# the size), VP8 44 ms, VP9 150 ms: OpenCV cannot ask these two for speed. The wheel has no H.264 or AV1 encoder.
_CODEC = "mp4v"

FRAGMENT_S = 1.0
"""How long a fragment is, at least; a killed writer loses at most twice as much (and a camera's last
image before a pause)."""

# OpenCV's encoder writes a key image, ten times as large as others, every 12: a fragment best ends before one.
_KEY_EVERY = 12
# However fast images come, OpenCV's temporary file stays small.
_FRAGMENT_IMAGES = 10 * _KEY_EVERY
_LONGEST_TICKS = 2**32 - 1  # 13 hours: an image's duration has 32 bits


class VideoOutput(Output):
    """The frames with their boxes, as an MP4 (MPEG-4 part 2) that plays in the images' own time.

    The file stands under its name from the first second on and grows by a fragment a second
    (`FragmentedMp4`), so one whose writer was killed plays up to the last fragment. The first frame
    fixes the size; later ones of another size are fitted into it.

    OpenCV encodes, but can neither write fragments nor say when an image is shown, and does not notice
    a full disk: OPENCV_FFMPEG_WRITER_OPTIONS reaches neither muxer nor encoder (5.0). So it is given a small
    file for each fragment, beside the target and without a name from the start, whose encoded images are then put
    where they belong.

    Args:
        path: ends in .mp4; missing folders are made. What stood there is replaced with the first fragment where
            the name has no `{time}`, and never where it has. `{date}` and `{time}` become those of that moment.
        class_names: by label.
        fps: images a second of a recording without time stamps; None for 25.
        live: images are shown when they were grabbed, so that dropped ones leave a gap.
        camera: takes this camera's frames only; None takes all.
        minutes: begin a new file after so many; needs `{time}` in the name. None for one file.

    Raises:
        OutputError: the file cannot be written.

    """

    def __init__(
        self,
        path: Path | str,
        class_names: Sequence[str],
        *,
        fps: float | None,
        live: bool = False,
        camera: str | None = None,
        minutes: float | None = None,
    ) -> None:
        self.path = Path(path)
        self.camera = camera
        self._class_names = class_names
        self._fps = fps or DEFAULT_FPS
        self._time = PlayTime(live=live, fps=fps)
        self._file_s = None if minutes is None else minutes * 60
        self._file: FragmentedMp4 | None = None
        self._began_s = 0.0
        self._encoder: _Encoder | None = None
        self._times_s: list[float] = []
        self._size_hw: tuple[int, int] | None = None
        self._said = False
        folder = timed(self.path, datetime.now()).parent
        self._part = folder / f".{self.path.stem}.part.mp4"
        if self.path.suffix.lower() != ".mp4":
            raise OutputError(f"{path}: the annotated video is an MP4, so its name must end in .mp4")
        if minutes is not None and "{time}" not in self.path.name:
            raise OutputError(f"{path}: a new video every {minutes:g} minutes needs {{time}} in its name")
        try:
            # A read-only folder is an error now, not after the first frame.
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise self._error(error) from None

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Draw and append one frame.

        Raises:
            OutputError: it cannot be written (disk full): the fragment at work is lost, what was
                written before stays whole, and the next frame begins a new fragment.

        """
        if self.camera not in (None, frame.camera):
            return
        time_s = self._time.seconds(frame)
        hud = f"{frame.camera}  frame {frame.index}  {record['age_ms']:.0f} ms"
        annotated = annotate(frame.image, detections, self._class_names, hud, counted=record["counted"])
        annotated = self._fitted(annotated)
        if self._times_s and self._is_due(time_s):
            self._finish_fragment(time_s)
        try:
            if self._encoder is None:
                self._encoder = _Encoder(self._part, self._fps, annotated.shape[1::-1])
            self._encoder.write(annotated)
        except OSError as error:
            raise self._error(error) from None
        self._times_s.append(time_s)

    def _is_due(self, time_s: float) -> bool:
        images, span_s = len(self._times_s), time_s - self._times_s[0]
        if images % _KEY_EVERY == 0:
            return span_s >= FRAGMENT_S or images >= _FRAGMENT_IMAGES
        return span_s >= 2 * FRAGMENT_S

    def close(self) -> None:
        """Finish the video; without a single frame there is none. Safe to call twice.

        Raises:
            OutputError: its end cannot be written.

        """
        try:
            if self._times_s:
                self._finish_fragment(self._times_s[-1] + self._last_step_s())
        finally:
            self._close_file()

    def _last_step_s(self) -> float:
        return self._times_s[-1] - self._times_s[-2] if len(self._times_s) > 1 else 1 / self._fps

    def _finish_fragment(self, next_s: float) -> None:
        """Write the images since the last fragment; the next one is shown at `next_s`."""
        encoder, times_s = self._encoder, self._times_s
        self._encoder, self._times_s = None, []
        if encoder is None:
            return
        try:
            samples = encoder.finish()
            if self._file is None:
                self._began_s = times_s[0]
                path = timed(self.path, datetime.now())
                path = unused(path) if "{time}" in self.path.name else path
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = FragmentedMp4(path, encoder.size_wh, samples.description)
            # From the file's begin, so that rounding does not add up.
            ticks = [round((time_s - self._began_s) * TICKS) for time_s in (*times_s, next_s)]
            self._file.add(samples, [min(max(1, b - a), _LONGEST_TICKS) for a, b in pairwise(ticks)])
        except OSError as error:
            raise self._error(error) from None
        if self._file_s is not None and next_s - self._began_s >= self._file_s:
            self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError as error:
            raise self._error(error) from None

    def _fitted(self, annotated: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = annotated.shape[:2]
        if self._size_hw is None:
            # Video codecs halve the colour's resolution: sizes must be even. A last odd row is cut off.
            self._size_hw = (max(2, height & ~1), max(2, width & ~1))
        if (height, width) == self._size_hw:
            return annotated
        if not self._said and max(abs(a - b) for a, b in zip(annotated.shape, self._size_hw, strict=False)) > 1:
            self._said = True
            _log.warning(
                "%s: images differ in size; fitted to the first one's %d x %d",
                self.path,
                self._size_hw[1],
                self._size_hw[0],
            )
        return _fit(annotated, self._size_hw)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({error.strerror})")


class _Encoder:
    """OpenCV's encoder for the images of one fragment, by way of a small file.

    Raises:
        OSError: the file cannot be written.
        OutputError: this OpenCV cannot write such a video.

    """

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, ...]) -> None:
        self.size_wh = (size_wh[0], size_wh[1])
        self._path = path
        with quiet_opencv():
            fourcc = cv2.VideoWriter.fourcc(*_CODEC)
            # From the root: FFmpeg takes what stands before a colon for a protocol.
            file = os.path.abspath(self._path)
            self._writer = cv2.VideoWriter(file, cv2.CAP_FFMPEG, fourcc, fps, self.size_wh)
        if not self._writer.isOpened():
            self._path.unlink(missing_ok=True)
            self._path.touch()  # says what is wrong with the folder, if that is it
            self._path.unlink()
            raise OutputError(f"{path.parent}: this OpenCV cannot write a video of {size_wh[0]} x {size_wh[1]}")
        self._file = self._path.open("rb")
        if os.name == "posix":
            self._path.unlink()  # nothing of it is left, even by a writer that is killed

    def write(self, image: NDArray[np.uint8]) -> None:
        self._writer.write(image)

    def finish(self) -> Samples:
        """The encoded images."""
        self._writer.release()
        try:
            with self._file:
                return read_samples(self._file.read())
        except ValueError:
            # OpenCV reports no failure to write: a broken file is the only trace of a full disk.
            raise OSError(None, "the disk is full") from None
        finally:
            self._path.unlink(missing_ok=True)


def _fit(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """An image of another size, whole, in a grey one of `size_hw`; an odd last row is cut off."""
    height, width = image.shape[:2]
    if 0 <= height - size_hw[0] <= 1 and 0 <= width - size_hw[1] <= 1:
        return np.ascontiguousarray(image[: size_hw[0], : size_hw[1]])
    fitted_h, fitted_w = placement((height, width), size_hw).fitted_hw
    canvas: NDArray[Any] = np.full((*size_hw, 3), PAD_VALUE, np.uint8)
    canvas[:fitted_h, :fitted_w] = cv2.resize(image, (fitted_w, fitted_h), interpolation=cv2.INTER_AREA)
    return canvas
