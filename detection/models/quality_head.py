"""FCOS with a joint score of class and localisation quality (IoU), and a learned scale per level."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead, FCOSRegressionHead
from torchvision.ops import generalized_box_iou_loss

from detection.models.assignment import Assignment, GroundTruth, atss_assignment, task_aligned_assignment
from detection.models.distributed import mean_over_processes, one_over_processes

LEVELS = 5
_INITIAL_DISTANCE = 3.0
"""Distance of a new head's box sides from their position, in strides; FCOS assigns boxes of up to 8 to a level."""


class ScaledRegressionHead(FCOSRegressionHead):
    """torchvision's regression tower without centre-ness, its distances scaled for each level.

    Z. Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector" (TPAMI 2020) learns a scale per level, so
    that one tower serves all. Softplus keeps distances positive, and unlike ReLU never stops learning.
    """

    def __init__(self, channels: int, num_anchors: int, num_convs: int) -> None:
        super().__init__(channels, num_anchors, num_convs)
        del self.bbox_ctrness
        nn.init.constant_(self.bbox_reg.bias, math.log(math.expm1(_INITIAL_DISTANCE)))
        self.scales = nn.Parameter(torch.ones(LEVELS))

    def forward(self, x: list[Tensor]) -> Tensor:
        """Feature maps of the levels -> distances float (N, A, 4) left, top, right, bottom in strides."""
        distances = []
        for scale, features in zip(self.scales, x, strict=True):
            raw = softplus(self.bbox_reg(self.conv(features))) * scale
            distances.append(raw.flatten(2).transpose(1, 2))
        return torch.cat(distances, dim=1)


class QualityHead(FCOSHead):
    """torchvision's FCOS head without centre-ness: the class score is the quality of the box as well."""

    def __init__(self, channels: int, num_anchors: int, num_classes: int, num_convs: int) -> None:
        super().__init__(channels, num_anchors, num_classes, num_convs)
        self.regression_head = ScaledRegressionHead(channels, num_anchors, num_convs)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Feature maps of the levels -> `cls_logits` (N, A, C) and `bbox_regression` (N, A, 4)."""
        return {"cls_logits": self.classification_head(x), "bbox_regression": self.regression_head(x)}


class QualityFCOS(FCOS):
    """FCOS whose class score is trained to be the IoU of the predicted box.

    The losses are the quality focal loss (X. Li et al., "Generalized Focal Loss", NeurIPS 2020) of the scores and
    the GIoU loss (H. Rezatofighi et al., CVPR 2019) of the boxes, weighted by the quality.

    Args:
        backbone: feature pyramid of five levels.
        num_classes: classes without a background.
        head: a `QualityHead`.
        assign: `atss` or `task_aligned` (see `detection.models.assignment`).
        box_weight: weight of the box loss.
        **more: as torchvision's FCOS takes them.

    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        head: QualityHead,
        assign: Literal["atss", "task_aligned"],
        box_weight: float = 2.0,
        **more: object,
    ) -> None:
        super().__init__(backbone, num_classes, head=head, **more)
        self.assign, self.box_weight = assign, box_weight

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
        truth = GroundTruth.of(targets)
        learned: Assignment
        if self.assign == "atss":
            learned = atss_assignment(truth, anchors[0], num_anchors_per_level, predicted.detach())
        else:
            learned = task_aligned_assignment(truth, anchors[0], predicted.detach(), logits.detach().sigmoid())
        total = mean_over_processes(learned.quality.sum()).clamp(min=one_over_processes())
        target = torch.zeros_like(logits).scatter_(2, learned.labels.unsqueeze(-1), learned.quality.unsqueeze(-1))
        # where nothing is assigned the predicted box is its own target, so that no NaN can arise
        true = torch.where(learned.positive.unsqueeze(-1), learned.boxes, predicted.detach())
        per_box = generalized_box_iou_loss(predicted, true, reduction="none")
        return {
            "classification": quality_focal_loss(logits, target).sum() / total,
            "bbox_regression": self.box_weight * (per_box * learned.quality).sum() / total,
        }

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """torchvision's; its square root of score times centre-ness is the score itself if both are the same."""
        both = {**head_outputs, "bbox_ctrness": head_outputs["cls_logits"]}
        answers: list[dict[str, Tensor]] = super().postprocess_detections(both, anchors, image_shapes)
        return answers


def quality_focal_loss(logits: Tensor, target: Tensor, *, beta: float = 2.0) -> Tensor:
    """The quality focal loss: X. Li et al., "Generalized Focal Loss" (NeurIPS 2020), eq. 3.

    Args:
        logits: float, of any shape.
        target: float of the same shape, the scores to be learned, 0 to 1.
        beta: exponent of the modulating factor.

    Returns:
        The loss of each element, float of the same shape.

    """
    weight = (target - logits.sigmoid()).abs() ** beta
    return binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
