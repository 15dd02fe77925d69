"""torchvision's FCOS, whole."""

from __future__ import annotations

from detection.models.presets.description import Preset, torchvision_builder

KINDS = (
    Preset(
        "fcos_resnet50_fpn",
        "FCOS, ResNet-50",
        torchvision_builder("fcos_resnet50_fpn"),
        backbone="resnet50",
        coco="FCOS_ResNet50_FPN_Weights.COCO_V1",
        imagenet="ResNet50_Weights.IMAGENET1K_V1",
        stem="layer1",
    ),
)
