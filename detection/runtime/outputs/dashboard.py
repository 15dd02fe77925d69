"""The dashboard as an output; the work is `detection.runtime.dashboard`'s."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from detection.runtime.outputs.contract import Output
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind, Package
from detection.runtime.settings import HomePath, Settings, number_as_text


class DashboardSettings(Settings):
    """A page for people."""

    address: str = Field("8080", description="PORT, or HOST:PORT")
    token: str | None = Field(None, repr=False, description="who opens it from elsewhere must know this")
    record_into: HomePath = Field(Path("recordings"), validate_default=True, description="folder of its recordings")

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
    about="a page for people",
    settings=DashboardSettings,
    opens=_open,
    flags=(
        Flag("[HOST:]PORT", "A page for a browser or a phone.", field="address"),
        Flag(
            "TOKEN",
            "Who opens it from elsewhere needs it.",
            field="token",
            suffix="token",
            environment="SWATH_DASHBOARD_TOKEN",
        ),
        Flag("DIR", "Of the record button's videos; recordings if left out.", field="record_into", suffix="record"),
    ),
    panel=NETWORK,
    example='{address: "0.0.0.0:8080", token: "${SWATH_DASHBOARD_TOKEN}"}',
    queued=False,
    needs=Package("uvicorn"),
    writes=lambda settings: [settings.record_into],
    port=_port_of,
)
