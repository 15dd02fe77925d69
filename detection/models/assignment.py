"""Which positions of the feature maps learn which plant: a target for every anchor, from the boxes of an image.

Everything is of fixed shape: boxes come padded, and what does not count is masked, so that nothing recompiles on
accelerators that compile and nothing waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou


@dataclass(frozen=True)
class Truth:
    """The boxes of a batch, padded to one number.

    Attributes:
        boxes: float (N, G, 4) xyxy pixels of the input.
        labels: int64 (N, G), 0 where padded.
        real: bool (N, G), False where padded.

    """

    boxes: Tensor
    labels: Tensor
    real: Tensor

    @classmethod
    def of(cls, targets: list[dict[str, Tensor]]) -> Truth:
        """From torchvision's targets: `boxes` (n, 4) and `labels` (n,) for each image.

        Padded to a power of two, so that few shapes occur in a training. Where targets have a `real`, bool (n,),
        they are padded already.
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
    """What every anchor is to learn.

    Attributes:
        positive: bool (N, A), anchors that learn a box.
        labels: int64 (N, A), its class; means nothing where not positive.
        boxes: float (N, A, 4), its box; means nothing where not positive.
        quality: float (N, A), the score that the anchor is to give, 0 to 1; 0 where not positive.

    """

    positive: Tensor
    labels: Tensor
    boxes: Tensor
    quality: Tensor


@torch.no_grad()
def adaptive_assignment(
    truth: Truth, anchors: Tensor, levels: list[int], predicted: Tensor, *, nearest: int = 9
) -> Assignment:
    """Positions whose square overlaps a box better than usual for that box.

    S. Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
    Selection" (ATSS, CVPR 2020): of each level the `nearest` anchors are candidates; those with an IoU of at least
    the candidates' mean plus standard deviation, and their centre inside of the box, learn it; if there are none,
    the nearest position does. The quality is the IoU of the predicted box (X. Li et
    al., "Generalized Focal Loss", NeurIPS 2020).

    Args:
        truth: the boxes.
        anchors: float (A, 4), one square at each position, as wide as FCOS makes them: the stride.
        levels: number of anchors of each level; their sum is A.
        predicted: float (N, A, 4), boxes as the network gives them now.
        nearest: candidates of each level.

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
    truth: Truth,
    anchors: Tensor,
    predicted: Tensor,
    scores: Tensor,
    *,
    best: int = 10,
    alpha: float = 0.5,
    beta: float = 4.0,
) -> Assignment:
    """Positions that already name and place a box best learn it.

    C. Feng et al., "TOOD: Task-aligned One-stage Object Detection" (ICCV 2021): t = score^alpha * IoU^beta; for each
    box the `best` positions inside of it by t. The quality is t, scaled so that its maximum for each box is the
    box's best IoU. A box without a position inside takes the nearest one.

    Args:
        truth: the boxes.
        anchors: float (A, 4), one square at each position.
        predicted: float (N, A, 4), boxes as the network gives them now.
        scores: float (N, A, C), scores as it gives them, 0 to 1.
        best: positions for each box.
        alpha: weight of the class score.
        beta: weight of the overlap.

    """
    inside = _inside(truth, _centres(anchors))
    overlap = _overlap(truth, predicted)
    of_class = scores.transpose(1, 2).gather(1, truth.labels.unsqueeze(-1).expand(-1, -1, scores.shape[1]))
    # what lies inside always comes before what does not, also where the network knows nothing yet
    aligned = (of_class**alpha * overlap**beta).clamp(min=1e-12) * inside
    top = aligned.topk(min(best, aligned.shape[-1]), dim=-1).indices
    good = torch.zeros_like(inside).scatter_(2, top, True) & inside
    owner = _owner(good, overlap)
    positive = good.any(dim=1)
    # per box, over the positions that it kept
    kept = good & torch.zeros_like(good).scatter_(1, owner.unsqueeze(1), True)
    highest = (aligned * kept).amax(dim=-1, keepdim=True).clamp(min=1e-12)
    best_overlap = (overlap * kept).amax(dim=-1, keepdim=True)
    quality = _of_owner(aligned / highest * best_overlap, owner) * positive
    return Assignment(positive, truth.labels.gather(1, owner), _boxes_of(truth, owner), quality)


def _centres(anchors: Tensor) -> Tensor:
    return (anchors[:, :2] + anchors[:, 2:]) / 2


def _distance(truth: Truth, centres: Tensor) -> Tensor:
    """From each box's centre to each position: (N, G, A) pixels."""
    box_centres = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    return torch.cdist(box_centres, centres.expand(len(box_centres), -1, -1))


def _overlap(truth: Truth, boxes: Tensor) -> Tensor:
    """IoU of each true box with each of boxes (N, A, 4): (N, G, A), 0 for padding."""
    pairs = [box_iou(true, other) for true, other in zip(truth.boxes, boxes.float(), strict=True)]
    return torch.stack(pairs).nan_to_num() * truth.real.unsqueeze(-1)


def _inside(truth: Truth, centres: Tensor) -> Tensor:
    """Which positions lie in which box: bool (N, G, A). A box that holds none has the nearest one."""
    box = truth.boxes.unsqueeze(2)
    beyond = torch.cat([centres - box[..., :2], box[..., 2:] - centres], dim=-1)
    within = (beyond > 0).all(dim=-1)
    within &= truth.real.unsqueeze(-1)
    return torch.where(within.any(dim=-1, keepdim=True), within, _nearest(truth, centres))


def _nearest(truth: Truth, centres: Tensor) -> Tensor:
    """The position nearest to each box's centre: bool (N, G, A)."""
    distance = _distance(truth, centres)
    nearest = distance.argmin(dim=-1, keepdim=True)
    return torch.zeros_like(distance, dtype=torch.bool).scatter_(2, nearest, True) & truth.real.unsqueeze(-1)


def _owner(good: Tensor, overlap: Tensor) -> Tensor:
    """Where several boxes want a position, the one with the highest IoU has it: int64 (N, A)."""
    return torch.where(good, overlap, -1.0).argmax(dim=1)


def _of_owner(values: Tensor, owner: Tensor) -> Tensor:
    return values.gather(1, owner.unsqueeze(1)).squeeze(1)


def _boxes_of(truth: Truth, owner: Tensor) -> Tensor:
    return truth.boxes.gather(1, owner.unsqueeze(-1).expand(-1, -1, 4))
