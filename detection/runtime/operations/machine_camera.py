"""The cameras of a machine's YAML: what can be set depends on the kind of each."""

from __future__ import annotations

import logging
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from detection.runtime.cameras import KINDS, kind_of
from detection.runtime.cameras.settings import CameraName, CameraSettings
from detection.runtime.settings import tag_of
from detection.runtime.streaming.slices import FrameSlicer, Window, checked_overlap, checked_roi, checked_tiles

_log = logging.getLogger(__name__)


class MachineCamera(CameraSettings):
    """One camera; what else can be set depends on its kind.

    The models of `AnyCamera` add the settings of the kinds. A machine's camera is the `CameraSettings` of its source,
    so `open_source` and `open_sources` take it as it is.
    """

    name: CameraName = Field(description="in all outputs")
    roi_xyxy: Annotated[Window | None, AfterValidator(checked_roi)] = Field(
        None, description="region of interest in pixels: detect in this part of the frame only"
    )
    tiles_rc: Annotated[tuple[int, int], AfterValidator(checked_tiles)] = Field(
        (1, 1), description="rows and columns of tiles, so that small plants stay large enough to be found"
    )
    overlap: Annotated[float, AfterValidator(checked_overlap)] = Field(
        0.2, description="of neighbouring tiles, as a fraction of a tile's side"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_settings_of_other_kinds(cls, camera: object) -> object:
        """Leave out settings that have no effect on this source, with a warning; they must be right all the same.

        A camera may be replaced by a recording of it, and the command line has one set of flags for all sources.
        """
        if not isinstance(camera, dict):
            return camera
        others = {key: field for settings in _SETTINGS for key, field in settings.model_fields.items()}
        kept = dict(camera)
        for key in (others.keys() - cls.model_fields.keys()) & kept.keys():
            value, field = kept.pop(key), others[key]
            try:
                TypeAdapter(Annotated[field.annotation, field]).validate_python(value)  # type: ignore[arg-type]
            except ValidationError as error:
                raise ValueError(f"{key}: {error.errors()[0]['msg']}, got {value!r}") from None
            if value != field.default:
                kind = kind_of(str(kept.get("source"))).name
                _log.warning("camera %s: %s has no effect on a source of kind %s", kept.get("name"), key, kind)
        return kept

    @property
    def slicer(self) -> FrameSlicer:
        """Which slices of its frames the network sees."""
        return FrameSlicer(self.roi_xyxy, self.tiles_rc, self.overlap)


_SETTINGS = tuple(dict.fromkeys(kind.settings for kind in KINDS))


def _model(settings: type[CameraSettings]) -> Any:
    bases: Any = (MachineCamera, settings)
    model = create_model(f"Machine{settings.__name__}", __base__=bases, __doc__=settings.__doc__)
    return Annotated[model, Tag(tag_of(settings.__name__))]


def _tag(camera: object) -> str:
    """Which of the models a camera has: that of its source's kind."""
    source = camera.get("source") if isinstance(camera, dict) else getattr(camera, "source", None)
    return tag_of(kind_of(str(source)).settings.__name__)


if TYPE_CHECKING:
    AnyCamera = MachineCamera
else:
    AnyCamera = Annotated[reduce(or_, map(_model, _SETTINGS)), Discriminator(_tag)]


def with_its_path(camera: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A camera of a YAML, with the full path where its source is a file or folder beside the YAML.

    Args:
        camera: as it was read; stays as it is.
        folder: of the YAML.

    """
    source = camera.get("source")
    if source is None or isinstance(source, bool | float | list | dict):
        return camera
    source = str(source)
    beside = Path(folder, Path(source).expanduser()) if "://" not in source and not source.isdecimal() else None
    return {**camera, "source": str(beside) if beside is not None and beside.exists() else source}
