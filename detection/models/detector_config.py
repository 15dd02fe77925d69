"""From what a detector is rebuilt: plain data that a checkpoint carries. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from detection.models import compatibility
from detection.models.presets import preset_named, preset_options, used_options

_Side = Annotated[int, Field(ge=1, le=16384)]


class DetectorConfig(BaseModel):
    """A detector's architecture and postprocessing.

    Everything that `detection.models.build.build_model` takes but the number of classes. `options` are complete:
    a preset's other default in a later version changes nothing for a checkpoint.
    """

    model_config = ConfigDict(frozen=True)

    preset: str = Field(description="name of the preset")
    options: dict[str, Any] = Field({}, description="the preset's options by name")
    size_hw: tuple[_Side, _Side] = Field(description="height and width of the input in pixels")
    pre_nms_score_threshold: float = Field(
        0.05, ge=0, le=1, description="boxes with this score or a lower one are dropped before NMS"
    )
    nms_iou: float = Field(
        0.6, ge=0, le=1, description="within a class, boxes that overlap a better one by more are dropped"
    )
    max_detections: int = Field(100, ge=1, le=100_000, description="most boxes an image")
    pre_nms_top_k: int = Field(300, ge=1, le=1_000_000, description="most boxes into NMS, per level or class")

    @property
    def backbone(self) -> str:
        """Name of the backbone, as `detection.models.backbones.make_body` takes it."""
        preset = preset_named(self.preset)
        return preset.backbone_of(preset_options(preset, self.options))

    @property
    def label_offset(self) -> int:
        """Label of the first class inside the model: 1 where 0 is the background."""
        return preset_named(self.preset).label_offset

    @property
    def top_k(self) -> int | None:
        """`pre_nms_top_k` where the preset's NMS is limited by it, else None."""
        return self.pre_nms_top_k if preset_named(self.preset).takes_top_k else None

    def build_arguments(self) -> dict[str, Any]:
        """What `build_model` takes beside the number of classes."""
        return {**self.model_dump(exclude={"options"}), **self.options}

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> DetectorConfig:
        """The configuration in a checkpoint's header, of this version or an earlier one.

        Raises:
            SwathError: a preset that this version does not have.
            ValueError, KeyError: not a header that Swath wrote.

        """
        if "detector" in header:
            config = cls.model_validate(header["detector"])
            preset_options(preset_named(config.preset), config.options)  # raises where one is out of its range
            return config
        recipe = header["recipe"]
        section, _ = compatibility.current_model_section(recipe["model"])
        preset = preset_named(section["preset"])
        options = preset_options(preset, used_options(preset, section))
        return cls(
            preset=preset.name,
            options=options.model_dump(),
            size_hw=recipe["input"]["size_hw"],
            **compatibility.current_postprocess_section(recipe.get("postprocess", {}))[0],
        )
