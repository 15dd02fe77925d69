"""`CameraSettings`: one source and how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from detection.runtime.errors import SourceError

Transport = Literal["tcp", "udp"]
"""How RTSP brings the images. TCP loses none of them and is late instead; UDP is the other way round."""

OPEN_TIMEOUT_S = 10.0
"""How long a camera may take from the first word to the first packets."""

READ_TIMEOUT_S = 3.0
"""How long nothing at all may come before the connection counts as dead."""


@dataclass(frozen=True)
class CameraSettings:
    """What a source is, and how to read it. Only `spec` is needed.

    Attributes:
        spec: what `open_source` takes: an index, device, URL, file, folder, ... Not shown by repr: it may
            hold a password.
        name: in outputs; None derives one from `spec`.
        max_fps: take at most so many images a second; None takes all. What is left out is neither
            numbered nor counted as dropped, and is not converted (a video stream must be decoded all the same).
        transport: of RTSP.
        open_timeout_s: how long a camera on the network may take to answer and to start.
        read_timeout_s: how long it may be silent before it is given up and opened again. A camera that
            gives less than an image in this time needs more.
        max_age_s: images older than this are dropped, not delivered; None delivers every newest one.
        stream_clock: whether a late image is recognised by the stream's own time stamps. False for cameras
            whose stamps do not follow the clock: then an image's age counts from its arrival.

    Raises:
        SourceError: a value outside its range.

    """

    spec: str = field(repr=False)
    name: str | None = None
    max_fps: float | None = None
    transport: Transport = "tcp"
    open_timeout_s: float = OPEN_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S
    max_age_s: float | None = None
    stream_clock: bool = True

    def __post_init__(self) -> None:
        if self.transport not in get_args(Transport):
            raise SourceError(f"transport: {self.transport!r} is neither tcp nor udp")
        positive = {
            "max_fps": self.max_fps,
            "open_timeout_s": self.open_timeout_s,
            "read_timeout_s": self.read_timeout_s,
            "max_age_s": self.max_age_s,
        }
        for name, value in positive.items():
            if value is not None and not 0 < value < float("inf"):
                raise SourceError(f"{name}: must be above 0, got {value:g}")
