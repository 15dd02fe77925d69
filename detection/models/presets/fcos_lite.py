"""`fcos_lite` and its sizes: torchvision's FCOS on a light backbone, with a narrow neck and head."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import Field

from detection.models.presets.description import Preset, PresetOptions

Neck = Literal["fpn", "pan"]
Assign = Literal["center_sampling", "atss", "task_aligned"]


class FcosLiteOptions(PresetOptions):
    """What can be chosen of an `fcos_lite`; a size has some other defaults."""

    backbone: str = Field(
        "tf_efficientnet_lite0",
        description="a timm model, torchvision: and one of its classifiers, or pruned: and an EfficientNet-Lite; "
        "null is the preset's own",
    )
    channels: int = Field(64, ge=32, multiple_of=32, description="width of neck and head; null is the preset's own")
    head_convs: int = Field(2, ge=1, le=8, description="3 x 3 convolutions in the head; null is the preset's own")
    neck: Neck = Field("fpn", description="fpn is top-down, pan adds a bottom-up path; null is the preset's own")
    assign: Assign = Field(
        "center_sampling",
        description="label assignment: center_sampling (FCOS, with centre-ness), atss, or task_aligned (TAL); with "
        "the last two the score is the expected IoU as well",
    )

    @property
    def static_shapes(self) -> bool:
        """ATSS and task-aligned assignment pad the boxes; FCOS's own indexes by what it finds."""
        return self.assign != "center_sampling"

    def check_input(self, size_hw: tuple[int, int]) -> None:
        """GroupNorm's 32 groups hold one channel each at 32 channels, and then need more than one position."""
        if self.channels == 32 and max(size_hw) <= 128:
            raise ValueError("with model.channels 32, input.size_hw needs a side above 128")


def _build(num_classes: int, options: FcosLiteOptions, *, separable: bool = False) -> Any:
    from detection.models.fcos_lite import fcos_lite

    return fcos_lite(num_classes, **options.model_dump(), separable=separable)


# Three sizes. Backbone, neck and head grow together (Tan et al., "EfficientDet", CVPR 2020, section 4.2); n is for
# CPUs. It and s keep the backbone of `fcos_lite`, so that all of them start pretrained without a network.
KINDS = (
    Preset("fcos_lite", "FCOS, EfficientNet-Lite0, narrow neck and head", _build, FcosLiteOptions),
    Preset(
        "fcos_lite_n",
        "the same for CPUs: pruned backbone, separable convolutions",
        partial(_build, separable=True),
        FcosLiteOptions,
        {"backbone": "pruned:tf_efficientnet_lite0"},
    ),
    Preset(
        "fcos_lite_s",
        "wider and deeper, with a bottom-up path",
        _build,
        FcosLiteOptions,
        {"channels": 96, "head_convs": 3, "neck": "pan"},
    ),
    Preset(
        "fcos_lite_m",
        "the same on EfficientNet-Lite4",
        _build,
        FcosLiteOptions,
        {"backbone": "tf_efficientnet_lite4", "channels": 128, "head_convs": 3, "neck": "pan"},
    ),
)
