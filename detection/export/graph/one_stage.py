"""The end-to-end graph of FCOS, RetinaNet and SSD: uint8 images in, fixed-size detections out."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from detection.export.graph.mark import Mark
from detection.export.graph.pixels import Normalisation
from detection.export.graph.suppression import survivors
from detection.runtime.errors import SwathError


class OneStageGraph(nn.Module):
    """A torchvision one-stage detector with a postprocessing of fixed shapes, equal to torchvision's own.

    torchvision keeps, per image and level (SSD: class), the boxes above the score threshold,
    at most `topk_candidates` (the pre-NMS top-k); decodes and clips them; suppresses within each class;
    keeps the best `detections_per_img`. Here the same happens with masks instead of shapes that depend on the data,
    so that the graph can be exported and its cost does not depend on the image.

    Args:
        model: FCOS, RetinaNet or SSD as `build_model` gives it; put in eval mode.
        label_offset: of the preset.
        size_hw: height and width of the input in pixels.

    Raises:
        SwathError: a detector of another family.

    """

    anchors: Tensor
    along_x: Tensor

    def __init__(self, model: nn.Module, label_offset: int, size_hw: tuple[int, int]) -> None:
        super().__init__()
        if not isinstance(model, FCOS | RetinaNet | SSD):
            raise SwathError(f"no one-stage graph for {type(model).__name__}: only for FCOS, RetinaNet, SSD")
        self.model: Any = model.eval()
        self.label_offset = label_offset
        self.size_hw = size_hw
        self.normalise = Normalisation(model.transform)
        self.mark = Mark()
        with torch.no_grad():
            images = torch.zeros(1, 3, *size_hw)
            features = self._features(images)
            anchors: Tensor = model.anchor_generator(ImageList(images, [size_hw]), features)[0]
        if isinstance(model, FCOS):
            # What its box coder makes of an anchor at every call: its center, and its size with the signs of xyxy.
            centers, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
            anchors = torch.cat([centers, centers, -sizes, sizes], dim=1)
        self.register_buffer("anchors", anchors)
        self.register_buffer("along_x", torch.tensor([1.0, 0.0, 1.0, 0.0]))
        # Anchors of one level follow each other; SSD takes its top-k over all levels at once.
        cells = [f.shape[-2] * f.shape[-1] for f in features]
        per_cell = [1] if isinstance(model, SSD) else model.anchor_generator.num_anchors_per_location()
        self.level_sizes = (
            [len(anchors)] if isinstance(model, SSD) else [c * a for c, a in zip(cells, per_cell, strict=True)]
        )

    def _features(self, images: Tensor) -> list[Tensor]:
        features = self.model.backbone(images)
        return list(features.values()) if isinstance(features, OrderedDict | dict) else [features]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            images: uint8 (N, H, W, 3) RGB, letterboxed.

        Returns:
            boxes float32 (N, K, 4) xyxy pixels of the input, scores float32 (N, K) sorted and 0 where
            empty, labels int64 (N, K) index into the dataset's classes and -1 where empty.

        """
        inputs = self.mark("network.inputs", self.normalise(images))
        answers: dict[str, Tensor] = self.model.head(self._features(inputs))
        head = {name: self.mark(f"network.{name}", tensor) for name, tensor in answers.items()}
        if isinstance(self.model, SSD):
            boxes, scores, labels = self._ssd_top_k(head)
        else:
            boxes, scores, labels = self._level_top_k(head)
        candidates = {"boxes": clipped(boxes, self.size_hw), "scores": scores, "labels": labels}
        return self._suppress(*(self.mark(f"candidates.{name}", tensor) for name, tensor in candidates.items()))

    def _level_top_k(self, head: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The best (position, class) pairs of each level: boxes (N, M, 4), scores (N, M), labels (N, M)."""
        classes = head["cls_logits"].shape[-1]
        start = 0
        scores, anchor_index, labels = [], [], []
        for size in self.level_sizes:
            logits = head["cls_logits"][:, start : start + size]
            level = torch.sigmoid(logits)
            if "bbox_ctrness" in head:
                level = torch.sqrt(level * torch.sigmoid(head["bbox_ctrness"][:, start : start + size]))
            best, index = level.flatten(1).topk(min(self.model.topk_candidates, size * classes))
            scores.append(best)
            anchor_index.append(torch.div(index, classes, rounding_mode="floor") + start)
            labels.append(index % classes)
            start += size
        positions = torch.cat(anchor_index, dim=1)
        codes = head["bbox_regression"].gather(1, positions.unsqueeze(-1).expand(-1, -1, 4))
        return (
            self._decode(codes, self.anchors[positions]),
            torch.cat(scores, dim=1),
            torch.cat(labels, dim=1),
        )

    def _ssd_top_k(self, head: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The best positions of each class, as `_level_top_k` gives them."""
        by_class = torch.softmax(head["cls_logits"], dim=-1)[..., 1:].transpose(1, 2)  # (N, C, A)
        classes, anchors = by_class.shape[1:]
        count = min(self.model.topk_candidates, anchors)
        scores, positions = by_class.topk(count, dim=-1)
        labels = torch.arange(classes, device=scores.device).view(1, classes, 1).expand_as(positions)
        positions = positions.flatten(1)
        codes = head["bbox_regression"].gather(1, positions.unsqueeze(-1).expand(-1, -1, 4))
        return self._decode(codes, self.anchors[positions]), scores.flatten(1), labels.flatten(1)

    def _decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        if isinstance(self.model, FCOS):
            return anchors[..., :4] + codes * anchors[..., 4:]
        coder = self.model.box_coder
        decoded: Tensor = coder.decode_single(codes.reshape(-1, 4), anchors.reshape(-1, 4)).view_as(codes)
        return decoded

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """NMS within each class of each image, then the best boxes of each image."""
        # Classes are moved apart along x, as torchvision does it: no box of one can overlap one of another.
        offset_x = labels.to(boxes.dtype) * float(max(self.size_hw) + 1)
        shifted = boxes + offset_x.unsqueeze(-1) * self.along_x
        alive = survivors(shifted, scores, self.model.nms_thresh, self.model.score_thresh, scores.shape[1])
        return best_of(boxes, scores * alive, labels, self.model.detections_per_img)


def best_of(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs of an end-to-end graph: the best of the boxes that survived NMS.

    Args:
        boxes_xyxy: float (N, M, 4).
        scores: float (N, M), 0 where a box did not survive.
        labels: int64 (N, M).
        most: how many (K); fewer where M is less.

    Returns:
        boxes (N, K, 4), scores (N, K) sorted, labels (N, K); 0, 0 and -1 where empty.

    """
    best, index = scores.topk(min(most, scores.shape[1]))
    filled = best > 0
    found = boxes_xyxy.gather(1, index.unsqueeze(-1).expand(-1, -1, 4)) * filled.unsqueeze(-1).to(boxes_xyxy.dtype)
    return found, best, torch.where(filled, labels.gather(1, index), -1)


def clipped(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Boxes float (..., 4) in pixels of the input, clipped to it."""
    height, width = size_hw
    return boxes_xyxy.clamp(min=0).minimum(boxes_xyxy.new_tensor([width, height, width, height]))
