"""Settings that camera kinds have in common; each kind's own stand in its file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from detection.runtime.settings import Positive, Settings

Transport = Literal["tcp", "udp"]
"""How RTSP brings the images."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("names hold no control characters")
    return name


CameraName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
"""A camera's name in outputs."""


class CameraSettings(Settings):
    """What a source is and how to read it; the settings of every kind have these.

    `detection.runtime.cameras.sources.camera_settings` makes those of the right kind.
    """

    source: str = Field(min_length=1, repr=False, description="index, /dev path, rtsp/http URL, video, folder, ...")
    name: CameraName | None = Field(None, description="in all outputs; null derives one from the source")


class RecordingSettings(CameraSettings):
    """How to read a recording with a clock of its own."""

    max_fps: Positive | None = Field(
        None, description="of cameras and videos: take at most this many images per second; others are not numbered"
    )


class LiveSettings(RecordingSettings):
    """How to read a live camera."""

    open_timeout_s: Positive = Field(
        10.0, description="of live cameras: how long one may take to answer and to send its first packets"
    )
    read_timeout_s: Positive = Field(
        3.0,
        description="of live cameras: silence after which one is reopened; longer than the time between two images",
    )
    max_age_s: Positive | None = Field(None, description="of live cameras: drop images older than this; null: none")
