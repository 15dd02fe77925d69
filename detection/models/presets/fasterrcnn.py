"""torchvision's Faster R-CNN, whole, with three backbones."""

from __future__ import annotations

from detection.models.presets.description import Preset, torchvision_builder

KINDS = (
    Preset(
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "Faster R-CNN, MobileNetV3-Large, few proposals",
        torchvision_builder("fasterrcnn_mobilenet_v3_large_320_fpn"),
        label_offset=1,
        takes_top_k=False,
        backbone="mobilenet_v3_large",
        coco="FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1",
        imagenet="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
        imagenet_prefix="features.",
        stem="3",
    ),
    Preset(
        "fasterrcnn_mobilenet_v3_large_fpn",
        "Faster R-CNN, MobileNetV3-Large",
        torchvision_builder("fasterrcnn_mobilenet_v3_large_fpn"),
        label_offset=1,
        takes_top_k=False,
        backbone="mobilenet_v3_large",
        coco="FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1",
        imagenet="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
        imagenet_prefix="features.",
        stem="3",
    ),
    Preset(
        "fasterrcnn_resnet50_fpn_v2",
        "Faster R-CNN, ResNet-50",
        torchvision_builder("fasterrcnn_resnet50_fpn_v2"),
        label_offset=1,
        takes_top_k=False,
        backbone="resnet50",
        coco="FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        imagenet="ResNet50_Weights.IMAGENET1K_V1",
        stem="layer1",
    ),
)
