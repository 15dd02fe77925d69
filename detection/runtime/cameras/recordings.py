"""Recordings: every image of a video file or an image folder, in order."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.capture import Capture
from detection.runtime.cameras.containers import contents_of
from detection.runtime.cameras.frame_rate import FrameRateLimiter
from detection.runtime.cameras.source import Source
from detection.runtime.decoding.pixels import Decoded, decode_file
from detection.runtime.decoding.refusal import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, ImageRefused
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError

_log = logging.getLogger(__name__)
_VIDEOS = frozenset({".mp4", ".mkv", ".avi", ".mov", ".m4v", ".webm", ".ts", ".mpg", ".mpeg", ".wmv", ".flv"})


_PACKETS_SKIPPED = 500
"""At most, one after another, where a stretch of a file is damaged: some seconds of video."""


class VideoFile(Source):
    """A video from its first image to its last.

    An image's age starts when it is requested, so it includes the time of decoding.

    Args:
        capture: opened; this object releases it.
        shown_as: what messages call it.
        camera: its name in outputs.
        path: of the file; None where it is elsewhere.
        max_fps: take at most this many images per second of the video; None for all. The others are not
            numbered.

    Raises:
        SourceError: no image can be read.

    """

    live = False

    def __init__(
        self,
        capture: Capture,
        shown_as: str,
        camera: str,
        max_fps: float | None = None,
        *,
        path: Path | None = None,
    ) -> None:
        self._capture = capture
        self._path = path
        self._last_s = 0.0
        self._shown_as = shown_as
        self.camera = camera
        fps, length = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps < 1000 else None
        self.length = int(length) if 0 < length < 2**53 else None
        self.dropped = 0
        self.unreadable = 0
        self.ended = False
        self._index = 0
        self._grabbed = 0
        self._limiter = FrameRateLimiter(max_fps)
        # A video that cannot be decoded opens without an error: only reading an image shows it.
        self._first = self._read()
        if self._first is None:
            capture.release()
            raise SourceError(f"{shown_as}: a video, but none of its images can be read")

    def _read(self) -> tuple[NDArray[np.uint8], float] | None:
        """The next selected image and its time in the video in seconds; None at the end."""
        while self._grab():
            self._grabbed += 1
            stream_s = self._last_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            if not self._limiter.accepts(stream_s):
                continue  # without converting it
            readable, image = self._capture.retrieve()
            return (image, stream_s) if readable else None
        return None

    def _grab(self) -> bool:
        """Go on to the next image that can be decoded; False at the end.

        OpenCV says the same of the end and of a packet that cannot be decoded.
        """
        failed = 0
        while not self._capture.grab():
            failed += 1
            more = self.length is None or self._grabbed < self.length
            if self._path is None or not more or failed > _PACKETS_SKIPPED:
                return False
        return True

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image; `timeout_s` is not used, a file never blocks.

        Raises:
            SourceError: the video is cut off, or many of its images cannot be decoded.

        """
        if self.ended:
            return None
        captured_ns = time.monotonic_ns()
        found, self._first = self._first, None
        if found is None:
            found = self._read()
        if found is None:
            self.ended = True
            self._check_complete()
            return None
        image, stream_s = found
        frame = Frame(image, self.camera, self._index, captured_ns, stream_s)
        self._index += 1
        return frame

    def _check_complete(self) -> None:
        stated = self.length or 0
        if not self._misses(stated):
            return
        # OpenCV's number may be an estimate from duration and rate, and counts images that an edit list hides.
        found = None if self._path is None else contents_of(self._path)
        if found is None:
            if self.fps and not self._misses(stated, had=round(self._last_s * self.fps) + 1):
                return  # the rate changed: the time that it states is there
            if self._path is not None:
                _log.warning("%s: has %d images; its container speaks of %d", self._shown_as, self._grabbed, stated)
                return
        elif found.whole and not self._misses(found.images or 0):
            return
        elif found.whole and found.may_begin_late and found.images is not None:
            missing = found.images - self._grabbed
            if missing != self._grabbed:  # of interlaced video each field may be counted
                self.unreadable += missing
                _log.warning("%s: %d of its images cannot be decoded", self._shown_as, missing)
            return
        total = stated if found is None else found.images
        if total is None:
            raise SourceError(
                f"{self._shown_as}: ends after {self._grabbed} images; it is cut off, or damaged on the way"
            )
        self.unreadable += max(0, total - self._grabbed)
        why = "it is cut off" if found is not None and not found.whole else "is it damaged?"
        raise SourceError(f"{self._shown_as}: ends after {self._grabbed} images of {total}; {why}")

    def _misses(self, images: int, had: int | None = None) -> bool:
        missing = images - (self._grabbed if had is None else had)
        return missing > max(2, 0.01 * images)

    def close(self) -> None:
        """Close the file."""
        self.ended = True
        self._capture.release()


class ImageFolder(Source):
    """The images of a folder (not of its sub-folders), or one image, in natural order.

    "2.jpg" comes before "10.jpg". Sizes may differ. Pixels are those that training sees, the orientation applied:
    `docs/reference/images.md` has the rule. An image that cannot be read, HEIC and raw files included, is logged as
    a warning and counted in `unreadable`; its index is left out.

    Args:
        path: a folder, or an image.
        camera: its name in outputs.

    Raises:
        SourceError: a folder without images, or one that may not be read.

    """

    live = False
    fps = None

    def __init__(self, path: Path, camera: str) -> None:
        self.camera = camera
        self._shown_as = str(path)
        try:
            files = _images_in(path) if path.is_dir() else [path]
        except OSError as error:
            raise SourceError(f"{path}: cannot be read ({error.strerror})") from None
        if not files and (any(path.glob("*.db3")) or any(path.glob("*.mcap"))):
            raise SourceError(
                f"{path}: no images; if it is a ROS 2 bag whose recorder was cut off, "
                f"`ros2 bag reindex {path.name}` writes its metadata.yaml"
            )
        if not files:
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(f"{path}: no images in this folder (looked for {kinds})")
        self.files: list[Path] = sorted(files, key=lambda p: _natural(p.name))
        self.length = len(self.files)
        self.dropped = 0
        self.unreadable = 0
        self.ended = False
        self._index = 0
        self._why = ""
        self._noted: Counter[str] = Counter()

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image that can be read; `timeout_s` is not used.

        Raises:
            SourceError: the folder ended, and none of its images could be read.

        """
        while not self.ended and self._index < self.length:
            index = self._index
            self._index += 1
            captured_ns = time.monotonic_ns()
            try:
                decoded = decode_file(self.files[index])
            except (ImageRefused, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else None
                self._why = self._why or f" ({self.files[index].name}: {reason or error})"
                self.unreadable += 1
                _log.warning("%s: left out: %s", self.files[index], reason or error)
                continue
            self._note(self.files[index], decoded)
            return Frame(decoded.image, self.camera, index, captured_ns)
        if not self.ended:
            self.ended = True
            for kind, count in self._noted.items():
                if count > 1:
                    _log.warning("%s: the same of %d images (%s)", self._shown_as, count, kind)
            if self.unreadable == self.length:
                raise SourceError(f"{self._shown_as}: none of its {self.length} images could be read{self._why}")
        return None

    def _note(self, file: Path, decoded: Decoded) -> None:
        """Say what is left out of an image: of the first of each kind; the others are counted."""
        for kind, words in decoded.notes:
            if not self._noted[kind]:
                _log.warning("%s: %s", file, words)
            self._noted[kind] += 1

    def close(self) -> None:
        """No more images come; nothing is open."""
        self.ended = True


def is_image(path: Path) -> bool:
    """Whether the name is that of an image, not of a hidden file; of a HEIC or raw file too: its error names it."""
    suffix = path.suffix.lower()
    # FFmpeg plays a GIF
    return suffix in IMAGE_SUFFIXES | FOREIGN_SUFFIXES and suffix != ".gif" and not path.name.startswith(".")


def _images_in(folder: Path) -> list[Path]:
    """Its images, and its HEIC, GIF and raw files unless an image lies beside them, as cameras write both."""
    names = [p for p in folder.iterdir() if not p.name.startswith(".")]
    files = [p for p in names if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    known = {p.stem for p in files}
    foreign = (p for p in names if p.suffix.lower() in FOREIGN_SUFFIXES and p.stem not in known)
    return files + [p for p in foreign if p.is_file()]


def is_video_name(name: str) -> bool:
    """Whether it ends like the name of a video file."""
    return Path(name).suffix.lower() in _VIDEOS


def _natural(name: str) -> list[Any]:
    """Sorting key: numbers by value. `re.split` with a group puts the numbers at odd indices."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
