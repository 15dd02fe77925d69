"""`Machine`: what one YAML says of a whole machine: its model, its cameras, its outputs and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from detection.runtime.cameras.settings import Positive
from detection.runtime.operations.machine_camera import AnyCamera, prepared_camera
from detection.runtime.tracking.motion import Direction

STANDARD_OUTPUT = Path("-")


def _from_the_files_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder", Path())
    return path if path == STANDARD_OUTPUT else Path(folder, path.expanduser())


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


HomePath = Annotated[Path, AfterValidator(_from_the_files_folder)]
"""Relative paths start at the folder of the YAML."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachineModel(_Settings):
    """What decides."""

    path: HomePath = Field(description="the .onnx that swath export wrote")
    provider: str | None = Field(None, description="cpu, openvino, cuda, tensorrt, ...; null: onnxruntime on the CPU")
    threads: int | None = Field(
        None, ge=1, description="for one image; null: all cores for cameras, one for recordings, several at once"
    )
    score: Fraction | None = Field(None, description="one threshold for all classes; null: the model file's own")
    score_thresholds: dict[str, Fraction] = Field(
        {}, description="thresholds by class; others are the model file's own"
    )
    watch: bool = Field(True, description="take a new file at the path while running, if it passes the checks")
    other_classes: bool = Field(False, description="let a new file find other classes than the old one")
    unproved: bool = Field(False, description="let a new file come without a parity report that passed")

    @model_validator(mode="after")
    def _one_or_by_class(self) -> Self:
        if self.score is not None and self.score_thresholds:
            raise ValueError("score and score_thresholds exclude each other: name the classes, or give one for all")
        return self

    def thresholds(self, class_names: tuple[str, ...], own: tuple[float, ...]) -> float | tuple[float, ...] | None:
        """What `Detector` takes as `score_thresholds`; None: the model file's own.

        Args:
            class_names: of the model file.
            own: its thresholds, one per class.

        Raises:
            ValueError: a class that the model file does not know.

        """
        if self.score is not None or not self.score_thresholds:
            return self.score
        unknown = ", ".join(sorted(set(self.score_thresholds) - set(class_names)))
        if unknown:
            raise ValueError(
                f"model.score_thresholds: the model does not find {unknown}, but {', '.join(class_names)}"
            )
        given = self.score_thresholds
        return tuple(given.get(name, value) for name, value in zip(class_names, own, strict=True))


class Limits(_Settings):
    """What must hold."""

    max_age_ms: Positive | None = Field(
        1000.0, description="older live images are neither decided on nor published; null: any age is"
    )
    batch_wait_ms: Positive | None = Field(None, description="wait for other cameras so long, where batches pay")
    duty_cycle: float = Field(1.0, gt=0, le=1, description="part of the time that may be computed, against heat")
    cool_below_c: Positive | None = Field(None, description="compute less and less from 5 degrees below this on")


class Tracking(_Settings):
    """Follow plants from image to image, and count each once. The ground's motion is seen in the images."""

    speed_m_s: float | None = Field(
        None, allow_inf_nan=False, description="of driving: a forecast where the ground is not seen"
    )
    pixels_per_metre: Positive | None = Field(None, description="of the camera's image, on the ground")
    direction: Direction = Field("down", description="where the ground goes in the image when driving forwards")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.speed_m_s is None) != (self.pixels_per_metre is None):
            raise ValueError("speed_m_s and pixels_per_metre belong together")
        return self


class MachineMetrics(_Settings):
    """A page for Prometheus."""

    port: Port = Field(description="of http://HOST:PORT/metrics")
    host: str = Field("127.0.0.1", description="address to listen on")


class MachineDashboard(_Settings):
    """A page for people."""

    address: str = Field("8080", description="PORT, or HOST:PORT")
    token: str | None = Field(None, repr=False, description="who opens it from elsewhere must know this")
    record_into: HomePath = Field(Path("recordings"), validate_default=True, description="folder of its recordings")

    @field_validator("address", mode="before")
    @classmethod
    def _port(cls, address: object) -> object:
        return _number_as_text(address)


class MachineBlackBox(_Settings):
    """What is kept around faults, and of images on which the detector was not sure."""

    folder: HomePath = Field(description="gets incidents/ and relabel/")
    before_s: Positive = Field(10.0, description="how far back an incident reaches")
    after_s: Positive = Field(5.0, description="how long it goes on after its last fault")
    memory_mb: Positive = Field(512.0, description="of images in memory, over all cameras")
    quota_mb: Positive = Field(5000.0, description="of everything in the folder; the oldest goes")
    as_jpeg: bool = Field(False, description="twelve times as many in the same memory, but not the very pixels")
    pause_s: float = Field(300.0, ge=0, description="the same fault begins an incident once in so many seconds")
    uncertain_every_s: Positive | None = Field(10.0, description="between two uncertain images; null: save none")
    uncertain_band: float = Field(0.1, gt=0, le=1, description="how far from its threshold a score is uncertain")


class Outputs(_Settings):
    """Where decisions go."""

    jsonl: HomePath | None = Field(None, description="one JSON line an image")
    events: HomePath | None = Field(None, description="one JSON line an event")
    csv: HomePath | None = Field(None, description="one row a detection")
    video: HomePath | None = Field(None, description="annotated, one file a camera")
    video_minutes: Positive | None = Field(
        None, description="a new video, and .mcap, every so often; needs {time} in their names"
    )
    mcap: HomePath | None = Field(None, description="for Foxglove")
    mqtt: str | None = Field(None, repr=False, description="mqtt://USER:PASSWORD@HOST:PORT/PREFIX")
    webhook: str | None = Field(None, repr=False, description="http or https URL")
    ros2: str | None = Field(None, description="name of the node that publishes Detection2DArray")
    metrics: MachineMetrics | None = Field(None, description="a page for Prometheus")
    dashboard: MachineDashboard | None = Field(None, description="a page for people")
    black_box: MachineBlackBox | None = Field(None, description="what is kept around faults")


class Machine(_Settings):
    """A whole machine. See machine.yaml beside this file for one."""

    name: str = Field("swath", min_length=1, description="of the machine, in logs")
    model: MachineModel = Field(description="what decides")
    cameras: tuple[AnyCamera, ...] = Field(min_length=1, description="one or more")
    tracking: Tracking | None = Field(None, description="follow plants, and count each once; {} for the defaults")
    limits: Limits = Field(Limits(), description="what must hold")
    outputs: Outputs = Field(Outputs(), description="where decisions go")
    log: HomePath | None = Field(None, description='JSON lines: a file, or "-" for the standard output')

    @field_validator("cameras", mode="before")
    @classmethod
    def _of_their_kinds(cls, cameras: object, info: ValidationInfo) -> object:
        """Find files beside the YAML, and leave out what the kind of a camera has no use for."""
        if not isinstance(cameras, list | tuple):
            return cameras
        folder = (info.context or {}).get("folder", Path())
        return [prepared_camera(camera, folder) if isinstance(camera, dict) else camera for camera in cameras]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [camera.name for camera in self.cameras]
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
        if twice is not None:
            raise ValueError(f"cameras: two are called {twice!r}; their names stand in all outputs and must differ")
        return self

    @property
    def written(self) -> list[Path]:
        """Files and folders that it writes."""
        told = self.outputs
        paths = [told.jsonl, told.events, told.csv, told.video, told.mcap]
        paths += [told.black_box.folder if told.black_box else None]
        paths += [told.dashboard.record_into if told.dashboard else None]
        paths += [self.log if self.log != STANDARD_OUTPUT else None]
        return [path for path in paths if path is not None]
