"""FCOS with one score that says both what a box is and how well it lies, and a learned scale per level."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead, FCOSRegressionHead
from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

from detection.models.assignment import Assignment, Truth, adaptive_assignment, task_aligned_assignment
from detection.models.processes import least_mean, mean_over_processes

BoxLoss = Literal["giou", "diou", "ciou"]
Quality = Literal["qfl", "vfl"]

LEVELS = 5
_BOX_LOSSES = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
_FIRST_REACH = 3.0
"""How far the sides of a new head's boxes lie from their position, in strides; FCOS means boxes of up to 8."""


class ScaledRegressionHead(FCOSRegressionHead):
    """torchvision's regression tower without centre-ness, its distances scaled for each level.

    Z. Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector" (TPAMI 2020) learns a scale per level, so
    that one tower serves all. Softplus keeps distances positive, and unlike ReLU never stops learning.
    """

    def __init__(self, channels: int, num_anchors: int, num_convs: int) -> None:
        super().__init__(channels, num_anchors, num_convs)
        del self.bbox_ctrness
        nn.init.constant_(self.bbox_reg.bias, math.log(math.expm1(_FIRST_REACH)))
        self.scales = nn.Parameter(torch.ones(LEVELS))

    def forward(self, x: list[Tensor]) -> Tensor:
        """Feature maps of the levels -> distances float (N, A, 4) left, top, right, bottom in strides."""
        distances = []
        for scale, features in zip(self.scales, x, strict=True):
            raw = softplus(self.bbox_reg(self.conv(features))) * scale
            distances.append(raw.flatten(2).transpose(1, 2))
        return torch.cat(distances, dim=1)


class QualityHead(FCOSHead):
    """torchvision's FCOS head whose class score is the quality of the box too."""

    def __init__(self, channels: int, num_anchors: int, num_classes: int, num_convs: int) -> None:
        super().__init__(channels, num_anchors, num_classes, num_convs)
        self.regression_head = ScaledRegressionHead(channels, num_anchors, num_convs)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Feature maps of the levels -> `cls_logits` (N, A, C) and `bbox_regression` (N, A, 4)."""
        return {"cls_logits": self.classification_head(x), "bbox_regression": self.regression_head(x)}


class QualityFCOS(FCOS):
    """FCOS that is told how good its boxes are.

    Args:
        backbone: feature pyramid of five levels.
        num_classes: classes without a background.
        head: a `QualityHead`.
        assign: `atss` or `task_aligned` (see `detection.models.assignment`).
        quality: `qfl`, quality focal loss (X. Li et al., NeurIPS 2020), or `vfl`, varifocal loss (H. Zhang et al.,
            "VarifocalNet", CVPR 2021).
        box_loss: `giou`, `diou` or `ciou`.
        box_weight: weight of the box loss beside the quality's.
        **more: as FCOS takes them.

    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        head: QualityHead,
        assign: Literal["atss", "task_aligned"],
        quality: Quality = "qfl",
        box_loss: BoxLoss = "giou",
        box_weight: float = 2.0,
        **more: object,
    ) -> None:
        super().__init__(backbone, num_classes, head=head, **more)
        self.assign, self.quality, self.box_loss, self.box_weight = assign, quality, box_loss, box_weight

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """The losses of a batch: `classification` and `bbox_regression`, each a scalar."""
        logits = head_outputs["cls_logits"].float()
        predicted = self.box_coder.decode(head_outputs["bbox_regression"].float(), torch.stack(anchors))
        truth = Truth.of(targets)
        learned: Assignment
        if self.assign == "atss":
            learned = adaptive_assignment(truth, anchors[0], num_anchors_per_level, predicted.detach())
        else:
            learned = task_aligned_assignment(truth, anchors[0], predicted.detach(), logits.detach().sigmoid())
        total = mean_over_processes(learned.quality.sum()).clamp(min=least_mean())
        wanted = torch.zeros_like(logits).scatter_(2, learned.labels.unsqueeze(-1), learned.quality.unsqueeze(-1))
        loss = quality_focal_loss(logits, wanted) if self.quality == "qfl" else varifocal_loss(logits, wanted)
        # where nothing is to be learned the predicted box stands for its own target, so that no NaN can come of it
        true = torch.where(learned.positive.unsqueeze(-1), learned.boxes, predicted.detach())
        per_box = _BOX_LOSSES[self.box_loss](predicted, true, reduction="none")
        return {
            "classification": loss.sum() / total,
            "bbox_regression": self.box_weight * (per_box * learned.quality).sum() / total,
        }

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """torchvision's; its square root of score times centre-ness is the score itself if both are the same."""
        both = {**head_outputs, "bbox_ctrness": head_outputs["cls_logits"]}
        answers: list[dict[str, Tensor]] = super().postprocess_detections(both, anchors, image_shapes)
        return answers


def quality_focal_loss(logits: Tensor, wanted: Tensor, *, beta: float = 2.0) -> Tensor:
    """X. Li et al., "Generalized Focal Loss" (NeurIPS 2020), eq. 3: elementwise, wanted scores 0 to 1."""
    weight = (wanted - logits.sigmoid()).abs() ** beta
    return binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight


def varifocal_loss(logits: Tensor, wanted: Tensor, *, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """H. Zhang et al., "VarifocalNet" (CVPR 2021), eq. 2: elementwise, wanted scores 0 to 1."""
    weight = torch.where(wanted > 0, wanted, alpha * logits.detach().sigmoid() ** gamma)
    return binary_cross_entropy_with_logits(logits, wanted, reduction="none") * weight
