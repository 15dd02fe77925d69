"""The black box as an output; the work is `detection.runtime.blackbox`'s."""

from __future__ import annotations

from pydantic import Field

from detection.runtime.outputs.contract import Output
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind
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


def _open(settings: BlackBoxSettings, context: OutputContext) -> list[Output]:
    from detection.runtime.blackbox.black_box import BlackBox

    box = BlackBox(
        settings.folder,
        context.controls,
        before_s=settings.before_s,
        after_s=settings.after_s,
        memory_bytes=round(settings.memory_mb * 1e6),
        quota_bytes=round(settings.quota_mb * 1e6),
        max_age_ms=context.max_age_ms,
        as_jpeg=settings.as_jpeg,
        pause_s=settings.pause_s,
        slicers=context.slicers,
        uncertain_every_s=settings.uncertain_every_s,
        uncertain_band=settings.uncertain_band,
    )
    return [box]


KIND = OutputKind(
    key="black_box",
    about="recordings of the seconds around faults, and uncertain images",
    settings=BlackBoxSettings,
    opens=_open,
    flags=(Flag("DIR", "Record the seconds around faults, and uncertain images.", field="folder"),),
    example="{folder: season/blackbox, before_s: 5, quota_mb: 20000}",
    queued=False,
    writes=lambda settings: [settings.folder],
)
