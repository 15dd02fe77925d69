"""`fcos_lite`: torchvision's FCOS on a light backbone, with a narrow neck and head, for real time at the edge."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import timm
import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from detection.quality_head import BoxLoss, Quality, QualityFCOS, QualityHead

Assign = Literal["centre", "atss", "task_aligned"]


class TimmPyramid(nn.Module):
    """A timm backbone followed by torchvision's feature pyramid: levels at strides 8, 16, 32, 64, 128.

    Args:
        backbone: any timm model that offers `features_only` with strides 8, 16 and 32.
        channels: width of every level.

    """

    def __init__(self, backbone: str, channels: int) -> None:
        super().__init__()
        probe: Any = timm.create_model(backbone, features_only=True, pretrained=False)
        strides = probe.feature_info.reduction()
        out_indices = [i for i, stride in enumerate(strides) if stride in (8, 16, 32)]
        if [strides[i] for i in out_indices] != [8, 16, 32]:
            raise ValueError(f"backbone {backbone} has strides {strides}; 8, 16 and 32 are needed")
        self.body = timm.create_model(backbone, features_only=True, pretrained=False, out_indices=tuple(out_indices))
        self.fpn = FeaturePyramidNetwork(
            [probe.feature_info.channels()[i] for i in out_indices],
            channels,
            extra_blocks=LastLevelP6P7(channels, channels),
        )
        self.out_channels = channels
        # where the feature maps of stride 4 end: what `freeze_stem` keeps as it was pretrained
        self.stem: str = [info["module"] for info in probe.feature_info.get_dicts() if info["reduction"] <= 4][-1]

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Normalised images float (N, 3, H, W) -> five feature maps (N, channels, H / stride, W / stride)."""
        features = self.body(images)
        pyramid: OrderedDict[str, torch.Tensor] = self.fpn(OrderedDict((str(i), f) for i, f in enumerate(features)))
        return pyramid


def normalisation(backbone: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per RGB channel (pictures scaled to 0..1) that the backbone was trained with."""
    config = timm.get_pretrained_cfg(backbone)
    if config is None:
        raise ValueError(f"timm has no backbone named {backbone}")
    return list(config.mean), list(config.std)


def fcos_lite(
    num_classes: int,
    *,
    backbone: str,
    channels: int = 64,
    head_convs: int = 2,
    assign: Assign = "task_aligned",
    quality: Quality = "qfl",
    box_loss: BoxLoss = "giou",
) -> FCOS:
    """Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection" (ICCV 2019), made narrow.

    Args:
        num_classes: classes without a background; FCOS needs none.
        backbone: a timm model name.
        channels: width of neck and head, a multiple of 32 (GroupNorm has 32 groups).
        head_convs: 3 x 3 convolutions before each output of the head.
        assign: which positions learn a box: `centre` is FCOS's own way, with centre-ness; see `detection.assignment`
            for the others, with which the score says how well the box lies.
        quality: loss of that score; says nothing with `centre`.
        box_loss: loss of the box; says nothing with `centre`.

    """
    make_head = FCOSHead if assign == "centre" else QualityHead
    head = make_head(channels, 1, num_classes, head_convs)
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels == channels:
            # torchvision starts at std 0.01, made for 256 channels and 90,000 steps. Under GroupNorm a filter's
            # direction is all that counts, and one this short turns by a tenth at every step of AdamW.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    mean, std = normalisation(backbone)
    pyramid = TimmPyramid(backbone, channels)
    if assign == "centre":
        return FCOS(pyramid, num_classes, head=head, image_mean=mean, image_std=std)
    return QualityFCOS(
        pyramid,
        num_classes,
        head=head,
        assign=assign,
        quality=quality,
        box_loss=box_loss,
        image_mean=mean,
        image_std=std,
    )
