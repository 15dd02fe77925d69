"""The dashboard as an output; the work is `detection.runtime.dashboard`'s."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from detection.runtime.outputs.contract import Output
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind, Package
from detection.runtime.settings import HomePath, Settings, number_as_text


class DashboardSettings(Settings):
    """A dashboard in the browser."""

    address: str = Field("8080", description="PORT, or HOST:PORT")
    token: str | None = Field(None, repr=False, description="required to open it from other machines")
    record_into: HomePath = Field(
        Path("recordings"), validate_default=True, description="folder for videos of the record button"
    )

    @field_validator("address", mode="before")
    @classmethod
    def _port(cls, address: object) -> object:
        return number_as_text(address)


def _open(settings: DashboardSettings, context: OutputContext) -> list[Output]:
    from detection.runtime.dashboard.dashboard import Dashboard

    dashboard = Dashboard(
        settings.address,
        context.controls,
        cameras=[source.camera for source in context.sources],
        record_into=settings.record_into,
        token=settings.token,
        listener=context.listener,
    )
    return [dashboard]


def _port_of(settings: DashboardSettings) -> int | None:
    port = settings.address.rpartition(":")[2]
    return int(port) if port.isdecimal() else None


KIND = OutputKind(
    key="dashboard",
    about="a live page for a browser or a phone",
    settings=DashboardSettings,
    opens=_open,
    flags=(
        Flag("[HOST:]PORT", "Serve a live page for a browser or a phone.", field="address"),
        Flag(
            "TOKEN",
            "Required to open it from other machines.",
            field="token",
            suffix="token",
            environment="SWATH_DASHBOARD_TOKEN",
        ),
        Flag(
            "DIR",
            "Folder for videos of the record button; recordings if left out.",
            field="record_into",
            suffix="record",
        ),
    ),
    panel=NETWORK,
    example='{address: "0.0.0.0:8080", token: "${SWATH_DASHBOARD_TOKEN}"}',
    queued=False,
    needs=Package("uvicorn"),
    writes=lambda settings: [settings.record_into],
    port=_port_of,
)
