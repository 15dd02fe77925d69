"""torchvision's SSDLite, whole."""

from __future__ import annotations

from detection.models.presets.description import Preset, torchvision_builder

KINDS = (
    # No ImageNet weights: its tail is half as wide as the one that was trained on ImageNet.
    Preset(
        "ssdlite320_mobilenet_v3_large",
        "SSDLite, MobileNetV3-Large",
        torchvision_builder("ssdlite320_mobilenet_v3_large"),
        label_offset=1,
        backbone="mobilenet_v3_large",
        coco="SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
    ),
)
