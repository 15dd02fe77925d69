"""`Source`: what every camera, video and image folder has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from detection.runtime.closing import Closing
from detection.runtime.detections import Frame
from detection.runtime.events import CameraStatus


class Source(Closing, Protocol):
    """Something that gives images, one after another; a context manager and an iterator of `Frame`.

    A recording (`live` False) gives every image in order and waits for whoever asks. A live
    source keeps the newest image only: those that nobody took in time are counted in `dropped`.

    Attributes:
        camera: its name in outputs; never holds a password.
        live: whether time goes on without us.
        fps: images a second as the source states it, None where it does not.
        length: how many images there are, as stated; None for live sources.
        dropped: images that came and were overtaken by a newer one.
        unreadable: images that were there and could not be decoded.
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
        """How it is; what is not supervised is live until it has ended."""
        return CameraStatus.ENDED if self.ended else CameraStatus.LIVE

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image, or None where none came within `timeout_s` seconds, or where it ended.

        Raises:
            SourceError: the source died; afterwards it has `ended`.

        """

    def close(self) -> None:
        """Let go of the camera or file; safe to call twice."""

    def __iter__(self) -> Iterator[Frame]:
        while not self.ended:
            frame = self.poll(timeout_s=0.1)
            if frame is not None:
                yield frame
