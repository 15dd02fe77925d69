"""`Ring`: the images of the last seconds, of all cameras, in bounded memory."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.contract import Record

_JPEG_QUALITY = 95
_CROWDED = 0.8


@dataclass(eq=False)
class Kept:
    """One image in the ring, with its detections.

    Attributes:
        frame: with its image, until `packed` replaces it.
        score_thresholds: in use at the time, one per class.
        model_sha256: of the model file in use.
        packed: the image as a JPEG; None while it is kept as pixels.
        wanted: it is to be saved, and saving has not begun.
        size_bytes: of memory.

    """

    frame: Frame | None
    camera: str
    captured_ns: int
    detections: Detections
    record: Record
    score_thresholds: tuple[float, ...]
    model_sha256: str
    packed: bytes | None = None
    wanted: bool = False
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_bytes = 0 if self.frame is None else self.frame.image.nbytes

    def file(self) -> tuple[str, bytes]:
        """Its image as a file: suffix and content. PNG, without loss, unless it was packed before."""
        if self.packed is not None:
            return ".jpg", self.packed
        assert self.frame is not None
        return ".png", encoded(self.frame.image, ".png")


class Ring:
    """The newest images: at most the last `seconds`, and at most `limit_bytes`.

    Images are kept by reference, which costs nothing: a PNG of 1920 x 1080 takes 67 ms and
    saves a factor of 2.3. So an image in the ring must never be modified.
    One that is wanted stays until it is saved, unless the memory is full of such images.

    Args:
        seconds: how far back it reaches.
        limit_bytes: of images in memory, over all cameras.

    Attributes:
        lost: wanted images that were removed before they were saved.

    """

    def __init__(self, seconds: float, limit_bytes: int) -> None:
        self.seconds = seconds
        self.limit_bytes = limit_bytes
        self.lost = 0
        self._lock = threading.Lock()
        self._kept: collections.deque[Kept] = collections.deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Of images in memory."""
        return self._bytes

    def add(self, kept: Kept) -> None:
        """Add an image; remove what is too old or too much."""
        with self._lock:
            self._kept.append(kept)
            self._bytes += kept.size_bytes
            oldest_ns = kept.captured_ns - int(self.seconds * 1e9)
            while len(self._kept) > 1 and self._bytes > self.limit_bytes:
                place = next((i for i, one in enumerate(self._kept) if not one.wanted), 0)
                gone = self._kept[place]
                del self._kept[place]
                self._bytes -= gone.size_bytes
                self.lost += gone.wanted
                gone.wanted = False
            while self._kept[0].captured_ns < oldest_ns and not self._kept[0].wanted:
                self._bytes -= self._kept.popleft().size_bytes

    @property
    def crowded(self) -> bool:
        """Whether images to be saved fill the memory: then there is no time for a PNG of each."""
        with self._lock:
            return sum(kept.size_bytes for kept in self._kept if kept.wanted) > _CROWDED * self.limit_bytes

    def want(self, since_ns: int) -> None:
        """Mark all images captured since then as to be saved."""
        with self._lock:
            for kept in self._kept:
                kept.wanted = kept.wanted or kept.captured_ns >= since_ns

    def take_wanted(self) -> Kept | None:
        """The oldest image that is to be saved, or None; it is no longer wanted."""
        with self._lock:
            found = next((kept for kept in self._kept if kept.wanted), None)
            if found is not None:
                found.wanted = False
            return found

    def next_unpacked(self) -> Kept | None:
        """The oldest image that is kept as pixels, or None."""
        with self._lock:
            return next((kept for kept in self._kept if kept.packed is None), None)

    def pack(self, kept: Kept) -> None:
        """Replace an image by its JPEG: a twelfth of the memory, lossy; takes 5.5 ms at 1920 x 1080."""
        assert kept.frame is not None
        packed = encoded(kept.frame.image, ".jpg")
        with self._lock:
            if kept in self._kept:
                self._bytes += len(packed) - kept.size_bytes
            kept.packed, kept.frame, kept.size_bytes = packed, None, len(packed)

    def give_up(self) -> None:
        """Stop saving; images that are still wanted count as lost."""
        with self._lock:
            for kept in self._kept:
                self.lost += kept.wanted
                kept.wanted = False


def encoded(image_bgr: NDArray[np.uint8], suffix: str) -> bytes:
    """An image, uint8 (H, W, 3), as the content of a file: ".png" without loss, or ".jpg"."""
    # OpenCV's own choice for PNG is twice as fast as compression level 1, at the same size.
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else []
    return cv2.imencode(suffix, image_bgr, settings)[1].tobytes()
