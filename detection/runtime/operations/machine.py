"""`Machine`: the settings of a whole machine: model, cameras, tracking, outputs and limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationInfo, create_model, field_validator, model_validator

import detection.runtime.outputs as outputs_room
from detection.runtime.addresses import secrets_of
from detection.runtime.cameras.names import merged
from detection.runtime.operations.machine_camera import AnyCamera, with_its_path
from detection.runtime.outputs.kind import OutputKind
from detection.runtime.settings import (
    STANDARD_OUTPUT,
    Fraction,
    HomePath,
    Positive,
    Settings,
)
from detection.runtime.signing import check_signature
from detection.runtime.tracking.motion import Direction


class MachineModel(Settings):
    """The model, and the thresholds that it runs with."""

    path: HomePath = Field(description="the .onnx that swath export wrote")
    provider: str | None = Field(None, description="cpu, openvino, cuda, tensorrt, ...; null: onnxruntime on the CPU")
    threads: int | None = Field(
        None,
        ge=1,
        description="threads for one image; null: all cores for cameras, one for recordings, several images at once",
    )
    score: Fraction | None = Field(None, description="one threshold for all classes; null: the model file's own")
    score_thresholds: dict[str, Fraction] = Field(
        {}, description="thresholds by class; for other classes the model file's own"
    )
    watch: bool = Field(True, description="load a new file at the path while running, if it passes the checks")
    other_classes: bool = Field(False, description="accept a new file that detects other classes than the old one")
    unverified: bool = Field(False, description="accept a new file without a passed parity check")

    require_signed: HomePath | None = Field(
        None,
        description="public key, Ed25519 in PEM: model files without its valid signature beside them are refused",
    )

    @model_validator(mode="after")
    def _one_or_by_class(self) -> Self:
        if self.score is not None and self.score_thresholds:
            raise ValueError("score and score_thresholds exclude each other: name the classes, or give one for all")
        return self

    def check_signature(self) -> None:
        """Refuse a model file that is not signed as required.

        Raises:
            SwathError: no signature, or of another file or key.

        """
        if self.require_signed is not None:
            check_signature(self.path, self.require_signed)

    @property
    def providers(self) -> list[str] | None:
        """The provider as `Detector` takes it; None: onnxruntime on the CPU."""
        return None if self.provider is None else [self.provider]

    def thresholds(self, class_names: tuple[str, ...], own: tuple[float, ...]) -> float | tuple[float, ...] | None:
        """The thresholds as `Detector` takes them; None: the model file's own.

        Args:
            class_names: of the model file.
            own: its thresholds, one per class.

        Raises:
            ValueError: a class that the model file does not detect.

        """
        if self.score is not None or not self.score_thresholds:
            return self.score
        unknown = ", ".join(sorted(set(self.score_thresholds) - set(class_names)))
        if unknown:
            raise ValueError(
                f"model.score_thresholds: the model does not detect {unknown}, but {', '.join(class_names)}"
            )
        given = self.score_thresholds
        return tuple(given.get(name, value) for name, value in zip(class_names, own, strict=True))


class Limits(Settings):
    """Limits on age and computation."""

    max_age_ms: Positive | None = Field(1000.0, description="drop live images that are older; null: none is dropped")
    batch_wait_ms: Positive | None = Field(
        None, description="wait this long for the other cameras' images, where a batch is faster"
    )
    duty_cycle: float = Field(
        1.0, gt=0, le=1, description="fraction of the time that may be spent computing, against heat"
    )
    cool_below_c: Positive | None = Field(
        None, description="compute less and less from 5 degrees Celsius below this temperature on"
    )


class Tracking(Settings):
    """Track plants from image to image, and count each once. The ground's motion is estimated from the images."""

    speed_m_s: float | None = Field(
        None, allow_inf_nan=False, description="driving speed: predicts motion where the images do not show it"
    )
    pixels_per_metre: Positive | None = Field(None, description="scale of the camera's image on the ground")
    direction: Direction = Field(
        "down", description="direction in which the ground moves in the image when driving forwards"
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.speed_m_s is None) != (self.pixels_per_metre is None):
            raise ValueError("speed_m_s and pixels_per_metre belong together")
        return self


class _Outputs(Settings):
    video_minutes: Positive | None = Field(
        None, description="begin a new video and .mcap after this many minutes; needs {time} in their names"
    )

    @property
    def chosen(self) -> list[tuple[OutputKind, Any]]:
        """The outputs in use, each with its settings, in the order of `KINDS`."""
        given = ((kind, getattr(self, kind.key)) for kind in outputs_room.KINDS)
        return [(kind, settings) for kind, settings in given if settings is not None]


if TYPE_CHECKING:

    class Outputs(_Outputs):
        """Where detections go: a key for each of `detection.runtime.outputs.KINDS`."""

        def __getattr__(self, key: str) -> Any: ...

else:
    Outputs = create_model(
        "Outputs",
        __base__=_Outputs,
        __module__=__name__,
        __doc__="Where detections and events go.",
        **{
            kind.key: (kind.settings | None, Field(None, description=kind.about, repr=not kind.secret))
            for kind in outputs_room.KINDS
        },
    )


class Machine(Settings):
    """A whole machine; `swath machine example` prints one."""

    name: str = Field("swath", min_length=1, description="of the machine, in logs")
    model: MachineModel = Field(description="the model that detects")
    cameras: tuple[AnyCamera, ...] = Field(min_length=1, description="one or more")
    tracking: Tracking | None = Field(None, description="track plants, and count each once; {} for the defaults")
    limits: Limits = Field(Limits(), description="limits on age and computation")
    outputs: Outputs = Field(default_factory=Outputs, description="where detections and events go")
    log: HomePath | None = Field(None, description='messages as JSON lines: a file, or "-" for the standard output')

    @field_validator("cameras", mode="before")
    @classmethod
    def _of_their_kinds(cls, cameras: object, info: ValidationInfo) -> object:
        """Find files beside the YAML: the kind of a camera depends on what is there."""
        if not isinstance(cameras, list | tuple):
            return cameras
        folder = (info.context or {}).get("folder", Path())
        return [with_its_path(camera, folder) if isinstance(camera, dict) else camera for camera in cameras]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        taken: dict[str, str] = {}
        for name in (camera.name for camera in self.cameras):
            other = taken.get(merged(name))
            if other == name:
                raise ValueError(f"cameras: two are called {name!r}; names are in all outputs and must differ")
            if other is not None:
                raise ValueError(
                    f"cameras: {other!r} and {name!r} would be one in names of files and topics; "
                    "let them differ in letters or digits"
                )
            taken[merged(name)] = name
        return self

    @property
    def secrets(self) -> set[str]:
        """Passwords and tokens in the addresses of its cameras and outputs."""
        addresses = [camera.source for camera in self.cameras]
        addresses += [str(settings) for kind, settings in self.outputs.chosen if kind.secret]
        return set().union(*(secrets_of(address) for address in addresses if "://" in address or "@" in address))

    @property
    def written(self) -> list[Path]:
        """Files and folders that it writes."""
        paths = [path for kind, settings in self.outputs.chosen for path in kind.writes(settings)]
        return [*paths, *([self.log] if self.log not in (None, STANDARD_OUTPUT) else [])]
