"""Label assignment: which positions of the feature maps learn which ground-truth box.

All tensors have static shapes: boxes are padded and padding is masked, so that compiling accelerators compile once,
and nothing synchronises with the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou


@dataclass(frozen=True)
class GroundTruth:
    """The ground-truth boxes of a batch, padded to the same number for every image.

    Attributes:
        boxes: float (N, G, 4) xyxy pixels of the input.
        labels: int64 (N, G), 0 where padded.
        real: bool (N, G), False where padded.

    """

    boxes: Tensor
    labels: Tensor
    real: Tensor

    @classmethod
    def of(cls, targets: list[dict[str, Tensor]]) -> GroundTruth:
        """From torchvision's targets.

        The number is padded to a power of two, so that few shapes occur in a training.

        Args:
            targets: of each image `boxes` float (n, 4) xyxy pixels and `labels` int64 (n,); where they are padded
                already, `real` bool (n,) says which are boxes.

        """
        most = max([16, *(len(target["labels"]) for target in targets)])
        padded = 1 << (most - 1).bit_length()
        boxes = targets[0]["boxes"].new_zeros(len(targets), padded, 4, dtype=torch.float32)
        labels = targets[0]["labels"].new_zeros(len(targets), padded, dtype=torch.int64)
        real = torch.zeros_like(labels, dtype=torch.bool)
        for row, target in enumerate(targets):
            n = len(target["labels"])
            boxes[row, :n] = target["boxes"]
            labels[row, :n] = target["labels"]
            real[row, :n] = target.get("real", True)
        return cls(boxes, labels, real)


@dataclass(frozen=True)
class Assignment:
    """The training target of every anchor.

    Attributes:
        positive: bool (N, A), anchors that are assigned to a box.
        labels: int64 (N, A), the class of that box; undefined where not positive.
        boxes: float (N, A, 4), that box, xyxy pixels of the input; undefined where not positive.
        quality: float (N, A), the target of the class score, 0 to 1; 0 where not positive.

    """

    positive: Tensor
    labels: Tensor
    boxes: Tensor
    quality: Tensor


@torch.no_grad()
def atss_assignment(
    truth: GroundTruth, anchors: Tensor, levels: list[int], predicted: Tensor, *, nearest: int = 9
) -> Assignment:
    """Adaptive training sample selection.

    S. Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
    Selection" (ATSS, CVPR 2020): the `nearest` anchors of each level compete; positive are those whose IoU is at
    least the mean plus the standard deviation of theirs, and whose centre lies inside the box; if there are none,
    the nearest anchor is. The quality is the IoU of the predicted box (X. Li et al., "Generalized Focal Loss",
    NeurIPS 2020).

    Args:
        truth: the ground truth.
        anchors: float (A, 4) xyxy pixels, one square at each position, as wide as the stride, as in FCOS.
        levels: number of anchors of each level; their sum is A.
        predicted: float (N, A, 4) xyxy pixels, the boxes that the network predicts.
        nearest: anchors of each level that compete for a box.

    """
    centres = _centres(anchors)
    half = 4 * (anchors[:, 2:] - anchors[:, :2])  # squares of 8 strides, as in the paper
    squares = torch.cat([centres - half, centres + half], dim=1)
    distance = _distance(truth, centres)
    chosen = torch.zeros_like(distance, dtype=torch.bool)
    start = 0
    for size in levels:
        near = distance[..., start : start + size].topk(min(nearest, size), dim=-1, largest=False).indices
        chosen.scatter_(2, near + start, True)
        start += size
    overlap = _overlap(truth, squares.expand(len(truth.boxes), -1, -1))
    count = chosen.sum(dim=-1, keepdim=True)
    mean = (overlap * chosen).sum(dim=-1, keepdim=True) / count
    spread = (((overlap - mean) ** 2 * chosen).sum(dim=-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    good = chosen & (overlap >= mean + spread) & _inside(truth, centres)
    good = torch.where(good.any(dim=-1, keepdim=True), good, _nearest(truth, centres))
    owner = _owner(good, overlap)
    positive = good.any(dim=1)
    quality = _of_owner(_overlap(truth, predicted), owner) * positive
    return Assignment(positive, truth.labels.gather(1, owner), _boxes_of(truth, owner), quality)


@torch.no_grad()
def task_aligned_assignment(
    truth: GroundTruth,
    anchors: Tensor,
    predicted: Tensor,
    scores: Tensor,
    *,
    best: int = 10,
    alpha: float = 0.5,
    beta: float = 4.0,
) -> Assignment:
    """Task-aligned label assignment (TAL).

    C. Feng et al., "TOOD: Task-aligned One-stage Object Detection" (ICCV 2021): t = score^alpha * IoU^beta; for each
    box the `best` positions inside it by t are positive. The quality is t, scaled so that its maximum for each box is
    the best IoU of the box. A box without a position inside is assigned to the nearest one.

    Args:
        truth: the ground truth.
        anchors: float (A, 4) xyxy pixels, one square at each position.
        predicted: float (N, A, 4) xyxy pixels, the boxes that the network predicts.
        scores: float (N, A, C), the class scores that it predicts, 0 to 1.
        best: most positions for a box.
        alpha: exponent of the class score.
        beta: exponent of the IoU.

    """
    inside = _inside(truth, _centres(anchors))
    overlap = _overlap(truth, predicted)
    of_class = scores.transpose(1, 2).gather(1, truth.labels.unsqueeze(-1).expand(-1, -1, scores.shape[1]))
    # positions inside come first also before anything is learned
    aligned = (of_class**alpha * overlap**beta).clamp(min=1e-12) * inside
    top = aligned.topk(min(best, aligned.shape[-1]), dim=-1).indices
    good = torch.zeros_like(inside).scatter_(2, top, True) & inside
    owner = _owner(good, overlap)
    positive = good.any(dim=1)
    # of each box, over the positions that it got
    kept = good & torch.zeros_like(good).scatter_(1, owner.unsqueeze(1), True)
    highest = (aligned * kept).amax(dim=-1, keepdim=True).clamp(min=1e-12)
    best_overlap = (overlap * kept).amax(dim=-1, keepdim=True)
    quality = _of_owner(aligned / highest * best_overlap, owner) * positive
    return Assignment(positive, truth.labels.gather(1, owner), _boxes_of(truth, owner), quality)


def _centres(anchors: Tensor) -> Tensor:
    return (anchors[:, :2] + anchors[:, 2:]) / 2


def _distance(truth: GroundTruth, centres: Tensor) -> Tensor:
    """From each box's centre to each position: (N, G, A) pixels."""
    box_centres = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    return torch.cdist(box_centres, centres.expand(len(box_centres), -1, -1))


def _overlap(truth: GroundTruth, boxes: Tensor) -> Tensor:
    """IoU of each ground-truth box with each of boxes (N, A, 4): (N, G, A), 0 for padding."""
    pairs = [box_iou(true, other) for true, other in zip(truth.boxes, boxes.float(), strict=True)]
    return torch.stack(pairs).nan_to_num() * truth.real.unsqueeze(-1)


def _inside(truth: GroundTruth, centres: Tensor) -> Tensor:
    """Which positions lie in which box: bool (N, G, A); for a box that contains none, the nearest one."""
    box = truth.boxes.unsqueeze(2)
    beyond = torch.cat([centres - box[..., :2], box[..., 2:] - centres], dim=-1)
    within = (beyond > 0).all(dim=-1)
    within &= truth.real.unsqueeze(-1)
    return torch.where(within.any(dim=-1, keepdim=True), within, _nearest(truth, centres))


def _nearest(truth: GroundTruth, centres: Tensor) -> Tensor:
    """The position nearest to each box's centre: bool (N, G, A)."""
    distance = _distance(truth, centres)
    nearest = distance.argmin(dim=-1, keepdim=True)
    return torch.zeros_like(distance, dtype=torch.bool).scatter_(2, nearest, True) & truth.real.unsqueeze(-1)


def _owner(good: Tensor, overlap: Tensor) -> Tensor:
    """The box that a position is assigned to, of several the one with the highest IoU: int64 (N, A)."""
    return torch.where(good, overlap, -1.0).argmax(dim=1)


def _of_owner(values: Tensor, owner: Tensor) -> Tensor:
    return values.gather(1, owner.unsqueeze(1)).squeeze(1)


def _boxes_of(truth: GroundTruth, owner: Tensor) -> Tensor:
    return truth.boxes.gather(1, owner.unsqueeze(-1).expand(-1, -1, 4))
