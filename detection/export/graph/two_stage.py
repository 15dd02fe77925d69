"""The end-to-end graph of Faster R-CNN: as `one_stage`, with a fixed number of proposals in between."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.image_list import ImageList

from detection.export.graph.mark import Mark
from detection.export.graph.one_stage import best_of, clipped
from detection.export.graph.pixels import Normalisation
from detection.export.graph.roi_atlas import RoiAtlas
from detection.export.graph.suppression import survivors

_SMALLEST_BOX_PX = 1e-2
"""torchvision's RoIHeads drops narrower and lower boxes; a literal there too."""


class TwoStageGraph(nn.Module):
    """torchvision's Faster R-CNN with every step of fixed shape, equal to torchvision's own.

    torchvision keeps, per image and level, the `pre_nms_top_n` best anchors; decodes and clips them; suppresses
    within each level; pools the `post_nms_top_n` best proposals from the level of their size; scores and
    decodes them once more for each class, and suppresses within each class. Here the number of proposals is
    always the same: where there are fewer, the rest is masked.

    Args:
        model: Faster R-CNN as `build_model` gives it; put in eval mode.
        size_hw: height and width of the input in pixels.

    """

    anchors: Tensor

    def __init__(self, model: FasterRCNN, size_hw: tuple[int, int]) -> None:
        super().__init__()
        self.model: Any = model.eval()
        self.size_hw = size_hw
        self.normalise = Normalisation(model.transform)
        self.mark = Mark()
        with torch.no_grad():
            images = torch.zeros(1, 3, *size_hw)
            features = model.backbone(images)
            maps = list(features.values())
            self.register_buffer("anchors", model.rpn.anchor_generator(ImageList(images, [size_hw]), maps)[0])
            self.pool = RoiAtlas(model.roi_heads.box_roi_pool, features, size_hw)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            images: uint8 (N, H, W, 3) RGB, letterboxed.

        Returns:
            boxes float32 (N, K, 4) xyxy pixels of the input, scores float32 (N, K) sorted and 0 where
            empty, labels int64 (N, K) index into the dataset's classes and -1 where empty.

        """
        inputs = self.mark("network.inputs", self.normalise(images))
        features = self.model.backbone(inputs)
        proposals, alive = self._proposals(list(features.values()))
        heads = self.model.roi_heads
        logits, codes = heads.box_predictor(heads.box_head(self.pool(features, proposals)))
        logits, codes = self.mark("network.class_logits", logits), self.mark("network.box_codes", codes)
        return self._detections(proposals, alive, logits, codes)

    def _proposals(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The first stage: boxes (N, R, 4) inside the image, and a mask bool (N, R) of those that exist."""
        rpn = self.model.rpn
        start = 0
        boxes, scores = [], []
        for level, (raw_logits, raw_codes) in enumerate(zip(*rpn.head(features), strict=True)):
            logits = self.mark(f"network.objectness.{level}", raw_logits)
            codes = self.mark(f"network.anchor_codes.{level}", raw_codes)
            flat = logits.permute(0, 2, 3, 1).flatten(1)
            size = flat.shape[1]
            best, index = flat.topk(min(rpn.pre_nms_top_n(), size))
            flat_codes = codes.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
            chosen = flat_codes.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
            anchors = self.anchors[index + start]
            decoded = rpn.box_coder.decode_single(chosen.reshape(-1, 4), anchors.reshape(-1, 4)).view_as(chosen)
            own = clipped(decoded, self.size_hw)
            score = torch.sigmoid(best)
            there = _larger(own, rpn.min_size) & (score >= rpn.score_thresh)
            boxes.append(own)
            scores.append(torch.where(there, score, -1.0))
            start += size
        # Every level gets the same number of places, so that each is a group of the suppression.
        most = max(score.shape[1] for score in scores)
        boxes_by_level = torch.stack([F.pad(own, (0, 0, 0, most - own.shape[1])) for own in boxes], dim=1)
        scores_by_level = torch.stack([F.pad(own, (0, most - own.shape[1]), value=-1.0) for own in scores], dim=1)
        boxes_by_level = self.mark("levels.boxes", boxes_by_level)
        scores_by_level = self.mark("levels.scores", scores_by_level)
        wanted = min(rpn.post_nms_top_n(), len(scores) * most)
        mask = survivors(
            boxes_by_level.flatten(0, 1), scores_by_level.flatten(0, 1), rpn.nms_thresh, -0.5, min(wanted, most)
        )
        kept = torch.where(mask.view_as(scores_by_level) > 0, scores_by_level, -1.0).flatten(1)
        best, index = kept.topk(wanted)
        alive = best >= 0
        proposals = boxes_by_level.flatten(1, 2).gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        nowhere = torch.tensor([0.0, 0.0, 1.0, 1.0], device=proposals.device)
        proposals = torch.where(alive.unsqueeze(-1), proposals, nowhere)
        return self.mark("proposals.boxes", proposals), self.mark("proposals.alive", alive)

    def _detections(
        self, proposals: Tensor, alive: Tensor, logits: Tensor, codes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs of `forward`, from logits (N * R, 1 + C) and codes (N * R, 4 * (1 + C))."""
        heads = self.model.roi_heads
        count = proposals.shape[1]
        scores = torch.softmax(logits, dim=-1)[:, 1:]  # without the background
        classes = scores.shape[1]
        boxes = heads.box_coder.decode_single(codes[:, 4:], proposals.reshape(-1, 4))
        boxes = clipped(boxes.view(-1, count, classes, 4).transpose(1, 2), self.size_hw)  # (N, C, R, 4)
        scores = scores.view(-1, count, classes).transpose(1, 2)
        scores = torch.where(alive.unsqueeze(1) & _larger(boxes, _SMALLEST_BOX_PX), scores, -1.0)
        boxes, scores = self.mark("candidates.boxes", boxes), self.mark("candidates.scores", scores)
        # Of one class no more than `detections_per_img` can be among the best of all.
        limit = min(heads.detections_per_img, count)
        mask = survivors(boxes.flatten(0, 1), scores.flatten(0, 1), heads.nms_thresh, heads.score_thresh, limit)
        kept = torch.where(mask.view_as(scores) > 0, scores, 0.0)
        labels = torch.arange(classes, device=scores.device).view(1, classes, 1).expand_as(scores)
        return best_of(boxes.flatten(1, 2), kept.flatten(1), labels.flatten(1), heads.detections_per_img)


def _larger(boxes_xyxy: Tensor, smallest_px: float) -> Tensor:
    """Whether both sides of boxes (..., 4) are at least `smallest_px` long: bool (...)."""
    sides = boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    return (sides >= smallest_px).all(dim=-1)
