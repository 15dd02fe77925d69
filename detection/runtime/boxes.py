"""Geometry of boxes: the one intersection over union (IoU) that tracking, tiles, evaluation and parity checks share.

Boxes are xyxy in continuous pixels: left, top, right, bottom, without the +1 of Pascal VOC. All functions broadcast
like NumPy's operators over every axis but the last, and compute in float64, as pycocotools does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def area(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Area of boxes (..., 4): float64 (...), square pixels."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]), np.float64)


def intersection(a_xyxy: NDArray[Any], b_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Area that boxes (..., 4) share with others (..., 4), broadcast: float64 (...), 0 where they do not meet."""
    a, b = np.asarray(a_xyxy, np.float64), np.asarray(b_xyxy, np.float64)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), np.float64)


def iou(a_xyxy: NDArray[Any], b_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union (Jaccard index) of boxes with others, broadcast.

        iou(box, boxes)                   # (4,) and (N, 4) -> (N,)
        iou(found[:, None], truth)        # every one with every other: (N, 1, 4) and (M, 4) -> (N, M)

    Args:
        a_xyxy: (..., 4), any real dtype, pixels; x1 <= x2 and y1 <= y2.
        b_xyxy: likewise; the axes before the last broadcast against those of `a_xyxy`.

    Returns:
        float64, 0 to 1; 0 where neither box has an area. For float32 boxes equal to `pycocotools.mask.iou` to the
        last bit.

    """
    shared = intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy) + area(b_xyxy) - shared
    return _quotient(shared, union)


def covered_share(a_xyxy: NDArray[Any], b_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over the area of the first box (IoA), broadcast: how much of `a` lies in `b`.

    What COCO uses in place of IoU for regions marked `iscrowd`.

    Args:
        a_xyxy: (..., 4), pixels.
        b_xyxy: (..., 4), pixels.

    Returns:
        float64, 0 to 1; 0 where `a` has no area.

    """
    shared = intersection(a_xyxy, b_xyxy)
    return _quotient(shared, np.broadcast_to(area(a_xyxy), shared.shape))


def _quotient(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0), np.float64)
