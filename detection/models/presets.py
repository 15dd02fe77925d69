"""Presets: torchvision's detectors by name, built for a dataset's classes and a fixed input size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import nn
from torchvision import models as tv_models
from torchvision.models import detection as tv
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detection.models.backbones import end_of_stem
from detection.models.fcos_lite import fcos_lite
from detection.models.necks import Neck
from detection.runtime.errors import SwathError


class FixedInput(GeneralizedRCNNTransform):
    """torchvision's input transform without its resizing: images arrive letterboxed already."""

    def resize(self, image: torch.Tensor, target: Any = None) -> tuple[torch.Tensor, Any]:
        """Give back what came in."""
        return image, target


@dataclass(frozen=True)
class Preset:
    """How one detector is built and talked to.

    Attributes:
        build: takes the number of the model's own classes and `backbone`, `channels`, `head_convs`, `neck`.
        label_offset: label of the first class inside the model: 1 where 0 is the background.
        backbone: name of the default backbone.
        coco: torchvision's COCO weights, or None.
        imagenet: torchvision's ImageNet weights of the backbone, or None: timm has them.
        imagenet_prefix: what the backbone's tensors are called by in the ImageNet file.
        stem: the part of `backbone.body` that ends at stride 4; None: the backbone says it, or has none.
        channels, head_convs: default width of neck and head, and depth of the head, of an `fcos_lite`.
        neck: its default neck.
        light: whether its neck and head are made of depthwise separable convolutions.

    """

    build: Callable[..., nn.Module]
    label_offset: int
    backbone: str
    coco: Any = None
    imagenet: Any = None
    imagenet_prefix: str = ""
    stem: str | None = None
    channels: int = 64
    head_convs: int = 2
    neck: Neck = "fpn"
    light: bool = False

    @property
    def has_choices(self) -> bool:
        """Whether backbone, neck, width and depth can be chosen; torchvision's own detectors are what they are."""
        return self.build is fcos_lite


def _torchvision(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def build(num_classes: int, **of_fcos_lite: Any) -> nn.Module:
        return builder(weights=None, weights_backbone=None, num_classes=num_classes)

    return build


_RESNET50 = tv_models.ResNet50_Weights.IMAGENET1K_V1
_MOBILENET = tv_models.MobileNet_V3_Large_Weights.IMAGENET1K_V1

PRESETS: dict[str, Preset] = {
    "fcos_lite": Preset(fcos_lite, 0, "tf_efficientnet_lite0"),
    # Three sizes. Backbone, neck and head grow together (Tan et al., "EfficientDet", CVPR 2020, section 4.2); n is
    # for CPUs. It and s keep the backbone of `fcos_lite`, so that all of them start pretrained without a network.
    "fcos_lite_n": Preset(fcos_lite, 0, "slim:tf_efficientnet_lite0", light=True),
    "fcos_lite_s": Preset(fcos_lite, 0, "tf_efficientnet_lite0", channels=96, head_convs=3, neck="pan"),
    "fcos_lite_m": Preset(fcos_lite, 0, "tf_efficientnet_lite4", channels=128, head_convs=3, neck="pan"),
    "fcos_resnet50_fpn": Preset(
        _torchvision(tv.fcos_resnet50_fpn),
        0,
        "resnet50",
        tv.FCOS_ResNet50_FPN_Weights.COCO_V1,
        _RESNET50,
        stem="layer1",
    ),
    "retinanet_resnet50_fpn_v2": Preset(
        _torchvision(tv.retinanet_resnet50_fpn_v2),
        0,
        "resnet50",
        tv.RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1,
        _RESNET50,
        stem="layer1",
    ),
    # No ImageNet weights: its tail is half as wide as the one that was trained on ImageNet.
    "ssdlite320_mobilenet_v3_large": Preset(
        _torchvision(tv.ssdlite320_mobilenet_v3_large),
        1,
        "mobilenet_v3_large",
        tv.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1,
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Preset(
        _torchvision(tv.fasterrcnn_mobilenet_v3_large_320_fpn),
        1,
        "mobilenet_v3_large",
        tv.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        _MOBILENET,
        "features.",
        "3",
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Preset(
        _torchvision(tv.fasterrcnn_mobilenet_v3_large_fpn),
        1,
        "mobilenet_v3_large",
        tv.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
        _MOBILENET,
        "features.",
        "3",
    ),
    "fasterrcnn_resnet50_fpn_v2": Preset(
        _torchvision(tv.fasterrcnn_resnet50_fpn_v2),
        1,
        "resnet50",
        tv.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
        _RESNET50,
        stem="layer1",
    ),
}


def build_model(
    preset: str,
    num_classes: int,
    *,
    backbone: str | None = None,
    channels: int | None = None,
    head_convs: int | None = None,
    neck: Neck | None = None,
    size_hw: tuple[int, int] | None = None,
    loss: Mapping[str, Any] | None = None,
    score_floor: float = 0.05,
    nms_iou: float = 0.6,
    max_detections: int = 100,
    candidates: int = 300,
) -> nn.Module:
    """A detector with random weights, in training mode.

    In training mode it takes a list of float (3, H, W) RGB images in 0..1 and a list of targets
    (`boxes` float (n, 4) xyxy pixels, `labels` int64 (n,) from the preset's `label_offset` on) and
    gives a dict of losses; in eval mode it gives torchvision's list of detections.

    Args:
        preset: a key of `PRESETS`.
        num_classes: classes of the dataset, without a background.
        backbone: only `fcos_lite` and its sizes have a choice; None is the preset's own.
        channels: width of `fcos_lite`'s neck and head; None is the preset's own.
        head_convs: depth of `fcos_lite`'s head; None is the preset's own.
        neck: `fpn` or `pan`, of `fcos_lite`; None is the preset's own.
        loss: `assign`, `quality` and `box_loss` of `fcos_lite`; None leaves them as they are.
        size_hw: height and width of the images to come; None leaves it unchecked whether they fit the backbone.
        score_floor: boxes at or below this score are dropped before NMS, 0 to 1.
        nms_iou: within a class, a box that overlaps a better one by more is dropped.
        max_detections: most boxes an image.
        candidates: most boxes that enter NMS, per level (FCOS, RetinaNet) or per class (SSD).

    Raises:
        SwathError: no such preset or backbone, a backbone or neck for a preset without a choice, or
            images that do not divide into a transformer's patches.

    """
    if preset not in PRESETS:
        raise SwathError(f"model.preset: no preset {preset!r}; there are: {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    if not chosen.has_choices:
        if backbone not in (None, chosen.backbone):
            raise SwathError(f"model.backbone: {preset} always has {chosen.backbone}; leave the key out")
        if neck is not None:
            raise SwathError(f"model.neck: {preset} has a neck of its own; leave the key out")
    try:
        model: Any = chosen.build(
            num_classes + chosen.label_offset,
            backbone=backbone or chosen.backbone,
            channels=channels or chosen.channels,
            head_convs=head_convs or chosen.head_convs,
            neck=neck or chosen.neck,
            light=chosen.light,
            **(loss or {}),
        )
    except (RuntimeError, ValueError) as error:
        if chosen.has_choices:
            raise SwathError(f"model.backbone: {error}") from error
        raise
    _check_patches(model, backbone or chosen.backbone, size_hw)
    old = model.transform
    model.transform = FixedInput(1, 1, old.image_mean, old.image_std)
    # Faster R-CNN keeps these at its second stage, under names of its own.
    second_stage = getattr(model, "roi_heads", model)
    second_stage.score_thresh, second_stage.nms_thresh = score_floor, nms_iou
    second_stage.detections_per_img = max_detections
    model.topk_candidates = candidates
    built: nn.Module = model
    return built


def _check_patches(model: Any, backbone: str, size_hw: tuple[int, int] | None) -> None:
    patch = getattr(model.backbone, "patch", None)
    if patch and size_hw and any(side % patch for side in size_hw):
        step = math.lcm(patch, 32)  # every input is a multiple of 32
        height, width = (max(step, round(side / step) * step) for side in size_hw)
        raise SwathError(
            f"input.size_hw: {size_hw[0]} x {size_hw[1]} does not divide into the patches of {patch} pixels of "
            f"{backbone}; the nearest that does is {height} x {width}"
        )


def freeze_stem(model: nn.Module, preset: str) -> None:
    """Leave the backbone up to stride 4 (a transformer: its patch embedding) as it was pretrained.

    Edges and textures transfer as they are, and the largest feature maps then need no backward pass: on
    CPU a step of `fcos_lite` takes two thirds of the time.
    """
    stem = PRESETS[preset].stem or getattr(model.backbone, "stem", None)
    if stem is None:
        return
    backbone: Any = model.backbone
    for parameter in list(backbone.body.parameters())[: end_of_stem(backbone.body, stem)]:
        parameter.requires_grad_(False)


def freeze_batchnorm_statistics(model: nn.Module) -> None:
    """Put every batch norm in eval mode: batches of a few images would spoil pretrained statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def norm_by_arithmetic(model: nn.Module) -> None:
    """Have batch norms with frozen statistics compute with plain sums and products, as XLA needs them.

    The same numbers; XLA has no backward pass of `batch_norm` that does not take the batch's own statistics.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = MethodType(_scaled_and_shifted, module)  # type: ignore[method-assign]


def _scaled_and_shifted(norm: Any, x: torch.Tensor) -> torch.Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    y: torch.Tensor = x * scale[:, None, None] + shift[:, None, None]
    for after in ("drop", "act"):  # of timm's BatchNormAct2d
        y = getattr(norm, after, nn.Identity())(y)
    return y
