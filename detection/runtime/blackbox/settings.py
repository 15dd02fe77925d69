"""What can be set of a black box: keys of a machine's YAML, and arguments of `BlackBox`."""

from __future__ import annotations

from pydantic import Field

from detection.runtime.settings import HomePath, Positive, Settings


class BlackBoxSettings(Settings):
    """Recordings around faults, and images on which the detector was uncertain."""

    folder: HomePath = Field(description="holds incidents/ and relabel/")
    before_s: Positive = Field(10.0, description="seconds before a fault that are recorded")
    after_s: Positive = Field(5.0, description="seconds after the last fault that are recorded")
    memory_mb: Positive = Field(512.0, description="memory for images, of all cameras together")
    quota_mb: Positive = Field(5000.0, description="size limit of the folder; the oldest are deleted")
    as_jpeg: bool = Field(
        False, description="keep JPEGs: twelve times as many in the same memory, but not the original pixels"
    )
    pause_s: float = Field(300.0, ge=0, description="seconds before the same fault is recorded again")
    uncertain_every_s: Positive | None = Field(
        10.0, description="seconds between two uncertain images; null: save none"
    )
    uncertain_band: float = Field(
        0.1, gt=0, le=1, description="distance of a score to its threshold that counts as uncertain"
    )
