"""torchvision's RetinaNet, whole."""

from __future__ import annotations

from detection.models.presets.description import Preset, torchvision_builder

KINDS = (
    Preset(
        "retinanet_resnet50_fpn_v2",
        "RetinaNet, ResNet-50",
        torchvision_builder("retinanet_resnet50_fpn_v2"),
        backbone="resnet50",
        coco="RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1",
        imagenet="ResNet50_Weights.IMAGENET1K_V1",
        stem="layer1",
    ),
)
