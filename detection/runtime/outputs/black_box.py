"""The black box as an output; the work is `detection.runtime.blackbox`'s."""

from __future__ import annotations

from detection.runtime.blackbox.settings import BlackBoxSettings
from detection.runtime.outputs.contract import Output
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind


def _open(settings: BlackBoxSettings, context: OutputContext) -> list[Output]:
    from detection.runtime.blackbox.black_box import BlackBox

    return [BlackBox(settings, context.controls, max_age_ms=context.max_age_ms, slicers=context.slicers)]


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
