"""Non-maximum suppression (NMS) in independent groups, as one operator of fixed shape.

torchvision's `nms` has one group, and returns a number of indices that depends on the data. Groups could be kept
apart by shifting their boxes, but that costs float32 precision: at 5,000 pixels a corner is rounded to 0.0005, enough
for the other of two proposals to survive. ONNX's own `NonMaxSuppression` has groups; this operator is that one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("swath::survivors", mutates_args=())
def survivors(boxes_xyxy: Tensor, scores: Tensor, iou: float, score_threshold: float, limit: int) -> Tensor:
    """Which boxes survive, each group by itself.

    Args:
        boxes_xyxy: float32 (G, M, 4).
        scores: float32 (G, M).
        iou: a box that overlaps a better one of its group by more is dropped.
        score_threshold: only boxes above it take part.
        limit: most survivors of a group, the best ones.

    Returns:
        float32 (G, M): 1 where a box survives, else 0.

    """
    mask = torch.zeros_like(scores)
    for group, (boxes, own) in enumerate(zip(boxes_xyxy, scores, strict=True)):
        alive = torch.where(own > score_threshold)[0]
        kept = nms(boxes[alive], own[alive], iou)[:limit]
        mask[group, alive[kept]] = 1
    return mask


@survivors.register_fake
def _(boxes_xyxy: Tensor, scores: Tensor, iou: float, score_threshold: float, limit: int) -> Tensor:
    return torch.empty_like(scores)


def rounded_down(iou: float) -> float:
    """The largest float32 that is at most `iou`.

    torchvision compares the float32 IoU of two boxes with a float64 threshold, ONNX with a float32 one. Rounded to
    the nearest, 0.6 would be above itself: two boxes of an IoU of just 0.6 would both survive in ONNX alone.
    """
    nearest = np.float32(iou)
    return float(nearest if float(nearest) <= iou else np.nextafter(nearest, np.float32(-1)))


def onnx_translations() -> dict[Any, Any]:
    """The operator in ONNX, as the `custom_translation_table` of `torch.onnx.export`."""
    from onnxscript import opset20

    op: Any = opset20  # its types know nothing of Python's numbers, which it takes

    def to_onnx(boxes_xyxy: Any, scores: Any, iou: float, score_threshold: float, limit: int) -> Any:
        # (K, 3): group, class (always 0), box
        chosen = op.NonMaxSuppression(
            boxes_xyxy, op.Unsqueeze(scores, [1]), [limit], [rounded_down(iou)], [score_threshold]
        )
        places = op.Gather(chosen, [0, 2], axis=1)
        ones = op.Expand(1.0, op.Shape(chosen, end=1))
        return op.ScatterND(op.Expand(0.0, op.Shape(scores)), places, ones)

    return {torch.ops.swath.survivors.default: to_onnx}
