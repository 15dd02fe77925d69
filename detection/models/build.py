"""A detector from its preset, for a dataset's classes and a fixed input size."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detection.models.presets import preset_named, preset_options
from detection.runtime.errors import SwathError
from detection.runtime.settings import explain


class FixedInput(GeneralizedRCNNTransform):
    """torchvision's input transform without its resizing: images arrive letterboxed already."""

    def resize(self, image: torch.Tensor, target: Any = None) -> tuple[torch.Tensor, Any]:
        """Give back what came in."""
        return image, target


def build_model(
    preset: str,
    num_classes: int,
    *,
    size_hw: tuple[int, int] | None = None,
    pre_nms_score_threshold: float = 0.05,
    nms_iou: float = 0.6,
    max_detections: int = 100,
    pre_nms_top_k: int = 300,
    **options: Any,
) -> nn.Module:
    """A detector with random weights, in training mode.

    In training mode it takes a list of float (3, H, W) RGB images in 0..1 and a list of targets
    (`boxes` float (n, 4) xyxy pixels, `labels` int64 (n,) from the preset's `label_offset` on) and
    gives a dict of losses; in eval mode it gives torchvision's list of detections.

    Example:
        >>> model = build_model("fcos_lite", 2, channels=32, nms_iou=0.5)
        >>> losses = model([torch.rand(3, 128, 160)], [{"boxes": boxes_xyxy, "labels": labels}])

    Args:
        preset: the name of one of `detection.models.presets.KINDS`.
        num_classes: classes of the dataset, without a background.
        size_hw: height and width of the images to come; None leaves it unchecked whether they fit the backbone.
        pre_nms_score_threshold: boxes with this score or a lower one are dropped before NMS, 0 to 1.
        nms_iou: within a class, a box that overlaps a better one by more than this IoU is dropped.
        max_detections: most boxes an image.
        pre_nms_top_k: most boxes that enter NMS, per level (FCOS, RetinaNet) or per class (SSD); Faster R-CNN has
            its proposals instead.
        **options: of the preset, such as `backbone` and `channels`; None is the preset's own default.

    Raises:
        SwathError: no such preset or backbone, an option that the preset does not have or of a wrong value, or
            images that do not divide into a transformer's patches.

    """
    chosen = preset_named(preset)
    try:
        parsed = preset_options(chosen, options)
    except ValidationError as error:
        raise SwathError("; ".join(f"model.{explain(fault, chosen.options)}" for fault in error.errors())) from None
    try:
        model: Any = chosen.build(num_classes + chosen.label_offset, parsed)
    except (RuntimeError, ValueError) as error:
        if chosen.chooses_backbone:
            raise SwathError(f"model.backbone: {error}") from error
        raise
    _check_patches(model, chosen.backbone_of(parsed), size_hw)
    old = model.transform
    model.transform = FixedInput(1, 1, old.image_mean, old.image_std)
    # Faster R-CNN keeps these at its second stage, under other names.
    second_stage = getattr(model, "roi_heads", model)
    second_stage.score_thresh, second_stage.nms_thresh = pre_nms_score_threshold, nms_iou
    second_stage.detections_per_img = max_detections
    model.topk_candidates = pre_nms_top_k
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
