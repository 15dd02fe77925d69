"""What a preset is: a small description that recipe, help and docs are derived from. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict


class PresetOptions(BaseModel):
    """The keys of a recipe's `model` section that belong to one preset. This base has none.

    A preset with options subclasses it in its own file; every field has a default and a description.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def static_shapes(self) -> bool:
        """Whether a training step has the same tensor shapes whatever the number of boxes, as XLA needs it."""
        return False

    def check_input(self, size_hw: tuple[int, int]) -> None:
        """Refuse an input size that a detector with these options cannot be trained with.

        Args:
            size_hw: height and width of the input in pixels.

        Raises:
            ValueError: the message names the keys.

        """


@dataclass(frozen=True)
class Preset:
    """One detector that a recipe can name.

    Attributes:
        name: as `model.preset` says it.
        title: one line for tables.
        build: takes the number of the model's own classes (a background included where there is one) and the
            preset's options; gives the detector with random weights, in training mode. It imports torch itself.
        options: the preset's own keys of the recipe.
        defaults: the preset's own defaults of some options, where several presets share a class of options.
        label_offset: label of the first class inside the model: 1 where 0 is the background.
        backbone: its backbone, where it is no option.
        coco: torchvision's COCO weights, as `torchvision.models.get_weight` takes them; None: there are none.
        imagenet: torchvision's ImageNet weights of a backbone that is no option; None: there are none that fit.
        imagenet_prefix: what the backbone's tensors are called by in that file.
        stem: the part of `backbone.body` that ends at stride 4; None: the backbone itself says, or has none.
        takes_top_k: whether `postprocess.pre_nms_top_k` limits what enters its NMS; a second stage takes proposals.

    """

    name: str
    title: str
    build: Callable[[int, Any], Any]
    options: type[PresetOptions] = PresetOptions
    defaults: Mapping[str, Any] = field(default_factory=dict)
    label_offset: int = 0
    backbone: str = ""
    coco: str | None = None
    imagenet: str | None = None
    imagenet_prefix: str = ""
    stem: str | None = None
    takes_top_k: bool = True

    @property
    def chooses_backbone(self) -> bool:
        """Whether the backbone is an option; torchvision's own detectors have the one that they have."""
        return "backbone" in self.options.model_fields

    def backbone_of(self, options: PresetOptions) -> str:
        """Name of the backbone that a detector with these options has."""
        return str(getattr(options, "backbone", self.backbone))


def torchvision_builder(function: str) -> Callable[[int, PresetOptions], Any]:
    """A `Preset.build` for a detector that torchvision has whole.

    Args:
        function: of `torchvision.models.detection`, such as "fcos_resnet50_fpn".

    """

    def build(num_classes: int, options: PresetOptions) -> Any:
        from torchvision.models import detection

        return getattr(detection, function)(weights=None, weights_backbone=None, num_classes=num_classes)

    return build
