"""`fcos_lite`: torchvision's FCOS on a light backbone, with a narrow neck and head, for small computers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from detection.models.backbones import make_body, normalisation
from detection.models.distributed import mean_over_processes, one_over_processes
from detection.models.necks import PathAggregation, SimplePyramid, make_separable
from detection.models.presets.fcos_lite import Assign, Neck
from detection.models.quality_head import QualityFCOS, QualityHead


class TimmPyramid(nn.Module):
    """A backbone and a narrow neck: levels at strides 8, 16, 32, 64, 128.

    A plain vision transformer has levels at a half, one, two, four and eight of its patches: the same
    strides for patches of 16 pixels, 7 to 112 for patches of 14.

    Args:
        backbone: see `detection.models.backbones.make_body`.
        channels: width of every level.
        neck: `fpn` (Lin et al., "Feature Pyramid Networks", CVPR 2017), or `pan`, which adds a bottom-up path.
        separable: whether the FPN's 3 x 3 convolutions are depthwise separable.

    Raises:
        ValueError: no such backbone, or one that does not fit.

    """

    def __init__(self, backbone: str, channels: int, neck: Neck = "fpn", *, separable: bool = False) -> None:
        super().__init__()
        body = make_body(backbone)
        self.body = body.module
        self.stem = body.stem
        self.patch = body.strides[0] if len(body.strides) == 1 else None
        """Side of a transformer's patch in pixels, of which the input must be a multiple; None for other nets."""
        self._channels_innermost = body.channels_innermost
        coarse = LastLevelP6P7(channels, channels) if neck == "fpn" else None
        if self.patch:
            self.fpn: nn.Module = SimplePyramid(body.channels[0], channels, coarse)
        else:
            fpn = FeaturePyramidNetwork(list(body.channels), channels, extra_blocks=coarse)
            if separable:
                make_separable(fpn.layer_blocks)
            self.fpn = fpn
        self.pan = PathAggregation(channels) if neck == "pan" else None
        self.out_channels = channels

    def forward(self, images: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Normalised images float (N, 3, H, W) -> five feature maps (N, channels, H / stride, W / stride)."""
        answer = self.body(images)
        maps = answer.values() if isinstance(answer, dict) else answer
        pairs = zip(maps, self._channels_innermost, strict=True)
        features = [m.permute(0, 3, 1, 2) if innermost else m for m, innermost in pairs]
        pyramid: OrderedDict[str, torch.Tensor] = self.fpn(OrderedDict((str(i), f) for i, f in enumerate(features)))
        return pyramid if self.pan is None else self.pan(pyramid)


class SharedNormHead(FCOSHead):
    """torchvision's FCOS head, whose losses are divided by the number of positives over all processes."""

    def compute_loss(
        self,
        targets: list[dict[str, torch.Tensor]],
        head_outputs: dict[str, torch.Tensor],
        anchors: list[torch.Tensor],
        matched_idxs: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch: `classification`, `bbox_regression` and `bbox_ctrness`, each a scalar."""
        losses: dict[str, torch.Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        own = torch.stack([(matched >= 0).sum() for matched in matched_idxs]).sum().float()
        shared = mean_over_processes(own)
        if shared is own:
            return losses
        factor = own.clamp(min=1.0) / shared.clamp(min=one_over_processes())
        return {name: loss * factor for name, loss in losses.items()}


def fcos_lite(
    num_classes: int,
    *,
    backbone: str,
    channels: int = 64,
    head_convs: int = 2,
    neck: Neck = "fpn",
    assign: Assign = "center_sampling",
    separable: bool = False,
) -> FCOS:
    """Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection" (ICCV 2019), with fewer channels.

    Args:
        num_classes: classes without a background; FCOS needs none.
        backbone: see `detection.models.backbones.make_body`.
        channels: width of neck and head, a multiple of 32 (GroupNorm has 32 groups).
        head_convs: 3 x 3 convolutions before each output of the head.
        neck: see `TimmPyramid`.
        assign: label assignment. `center_sampling` is FCOS's own, with centre-ness; with `atss` and `task_aligned`
            (see `detection.models.assignment`) the class score is trained to be the IoU of the box as well.
        separable: depthwise separable convolutions in neck and head, and pointwise ones for its outputs: an eighth of
            the computation.

    Returns:
        The detector with random weights, in training mode; its input transform still resizes.

    Raises:
        ValueError: no such backbone, or one that does not fit.

    """
    make_head = SharedNormHead if assign == "center_sampling" else QualityHead
    head = make_head(channels, 1, num_classes, head_convs)
    if separable:
        _separate(head)
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels == channels:
            # torchvision starts at std 0.01, made for 256 channels and 90,000 steps. Under GroupNorm a filter's
            # direction is all that counts, and one this short turns by a tenth at every step of AdamW.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    mean, std = normalisation(backbone)
    pyramid = TimmPyramid(backbone, channels, neck, separable=separable)
    if assign == "center_sampling":
        return FCOS(pyramid, num_classes, head=head, image_mean=mean, image_std=std)
    return QualityFCOS(pyramid, num_classes, head=head, assign=assign, image_mean=mean, image_std=std)


def _separate(head: FCOSHead) -> None:
    """Separable towers and pointwise outputs, in place; the outputs are initialised as torchvision's dense ones."""
    for part in (head.classification_head, head.regression_head):
        make_separable(part.conv)
        for name, dense in list(part.named_children()):
            if isinstance(dense, nn.Conv2d):
                pointwise = nn.Conv2d(dense.in_channels, dense.out_channels, 1)
                nn.init.normal_(pointwise.weight, std=0.01)
                pointwise.bias = dense.bias
                setattr(part, name, pointwise)
