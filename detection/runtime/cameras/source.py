"""`Source`: the interface of every camera, video, recording and image folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from detection.runtime.closing import Closing
from detection.runtime.events import CameraStatus

if TYPE_CHECKING:
    from detection.runtime.detections import Frame


class Source(Closing, Protocol):
    """A sequence of images; a context manager and an iterator of `Frame`.

    A recording (`live` False) gives every image in order, as fast as they are taken. A live
    source keeps the newest image only: those that were not taken in time are counted in `dropped`.

    Attributes:
        camera: its name in outputs; never holds a password.
        live: whether it is a camera, which goes on by itself.
        fps: images per second as the source states it, None where it does not.
        length: number of images as the source states it; None for live sources.
        dropped: images that were replaced by a newer one before they were taken.
        unreadable: images that could not be decoded.
        ended: True once nothing more will come.

    """

    camera: str
    live: bool
    fps: float | None
    length: int | None
    dropped: int
    unreadable: int
    ended: bool

    @property
    def status(self) -> CameraStatus:
        """Its status; an unsupervised source is live until it has ended."""
        return CameraStatus.ENDED if self.ended else CameraStatus.LIVE

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image, or None where none came within `timeout_s` seconds, or where it ended.

        Raises:
            SourceError: the source failed; afterwards it has `ended`.

        """

    def close(self) -> None:
        """Release the camera or file; safe to call twice."""

    def __iter__(self) -> Iterator[Frame]:
        while not self.ended:
            frame = self.poll(timeout_s=0.1)
            if frame is not None:
                yield frame
