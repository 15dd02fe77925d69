"""A preset as a contributor adds it: this file, and one line in `detection.models.presets.KINDS`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from detection.models.presets import Preset, PresetOptions


class SmallRetinaNetOptions(PresetOptions):
    smallest_anchor_px: int = Field(32, ge=4, description="side of the smallest anchors")


def _build(num_classes: int, options: SmallRetinaNetOptions) -> Any:
    from torchvision.models import resnet18
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    backbone = BackboneWithFPN(resnet18(weights=None), layers, [128, 256, 512], 64, LastLevelP6P7(64, 64))
    sizes = tuple((options.smallest_anchor_px * 2**level,) for level in range(5))
    return RetinaNet(backbone, num_classes, anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5))


KIND = Preset(
    "retinanet_resnet18",
    "RetinaNet, ResNet-18",
    _build,
    SmallRetinaNetOptions,
    backbone="resnet18",
    imagenet="ResNet18_Weights.IMAGENET1K_V1",
    stem="layer1",
)
