"""`Look`: which parts of a camera's image the network sees, and how what it finds there becomes one answer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from detection.runtime.backends.contract import Raw
from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector, Prepared

_SEAM_PX = 2.0
"""A box that ends so near to an inner edge of its tile is taken to be cut by it."""


@dataclass(frozen=True)
class Look:
    """Which parts of an image are looked at.

    Attributes:
        roi_xyxy: the part of interest in whole pixels, x2 and y2 outside; None for all of it. What lies
            beyond the image is left out.
        tiles_rc: rows and columns of tiles that the part is cut into, each fitted to the network's input
            by itself: small plants in a large image stay large enough to be found, and each tile costs
            as much as an image.
        overlap: of neighbouring tiles, as a part of a tile's side, 0 to below 1. Plants that are smaller
            than it are whole in one tile at least.

    Raises:
        ValueError: a part without pixels, no tiles, or an overlap outside 0 to 1.

    """

    roi_xyxy: tuple[int, int, int, int] | None = None
    tiles_rc: tuple[int, int] = (1, 1)
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if self.roi_xyxy is not None:
            x1, y1, x2, y2 = self.roi_xyxy
            if not (0 <= x1 < x2 and 0 <= y1 < y2):
                raise ValueError(f"region of interest {self.roi_xyxy}: must be x1,y1,x2,y2 with x1 < x2 and y1 < y2")
        if min(self.tiles_rc) < 1:
            raise ValueError(f"tiles {self.tiles_rc[0]}x{self.tiles_rc[1]}: must be 1x1 at least")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap:g}: must be from 0 to below 1")

    def windows(self, image_hw: tuple[int, int]) -> list[tuple[int, int, int, int]]:
        """The parts of an image of `image_hw` as xyxy in whole pixels; empty where the part lies outside."""
        height, width = image_hw
        left, top, right, bottom = self.roi_xyxy or (0, 0, width, height)
        right, bottom = min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return []
        rows = _spans(top, bottom, self.tiles_rc[0], self.overlap)
        columns = _spans(left, right, self.tiles_rc[1], self.overlap)
        return [(x1, y1, x2, y2) for (y1, y2), (x1, x2) in product(rows, columns)]


WHOLE = Look()
"""All of the image at once."""


@dataclass(frozen=True, eq=False)
class Cut:
    """One image's parts, fitted to the network's input.

    Attributes:
        windows_xyxy: where each part lies in the image, in whole pixels.
        prepared: each part's pixels and placement, in the same order.

    """

    windows_xyxy: tuple[tuple[int, int, int, int], ...]
    prepared: tuple[Prepared, ...]


def cut(detector: Detector, image_bgr: NDArray[np.uint8], look: Look) -> Cut:
    """The parts of an image, uint8 (H, W, 3), ready for `detector.infer`."""
    windows = look.windows((image_bgr.shape[0], image_bgr.shape[1]))
    return Cut(tuple(windows), tuple(detector.prepare(image_bgr[y1:y2, x1:x2]) for x1, y1, x2, y2 in windows))


def joined(
    detector: Detector, raw: Raw, first_row: int, parts: Cut, score_thresholds: NDArray[np.float32] | None = None
) -> Detections:
    """What the rows of `raw` from `first_row` on say of one image.

    Args:
        detector: gave `raw`.
        raw: one row per part, this image's together.
        first_row: that of its first part.
        parts: of `cut`.
        score_thresholds: float32 (classes,), from which on a box counts; None: those in force.

    Returns:
        Boxes in pixels of the image, highest score first.

    """
    found = []
    for row, (window, prepared) in enumerate(zip(parts.windows_xyxy, parts.prepared, strict=True), first_row):
        here = detector.finish(raw, row, prepared.placement, score_thresholds)
        found.append(_shifted(here, window[:2]))
    if len(found) == 1:
        return found[0]
    return merge_tiles(found, parts.windows_xyxy, detector.metadata.nms_iou) if found else Detections.empty()


def merge_tiles(
    found: list[Detections], windows_xyxy: tuple[tuple[int, int, int, int], ...], nms_iou: float
) -> Detections:
    """One plant once, though several tiles saw it.

    Within a tile the graph has suppressed doubles already. Of two boxes of one class from different
    tiles one goes where they overlap by more than `nms_iou`, or where one that a seam cut lies in the
    other by more than half (the rest of a plant whose whole is in the neighbour: its overlap is small,
    its share is not). Whole boxes come before cut ones, then the higher score.

    Args:
        found: per tile, boxes in pixels of the image.
        windows_xyxy: per tile.
        nms_iou: from which intersection over union on two boxes are one object.

    Returns:
        Highest score first.

    """
    boxes = np.concatenate([d.boxes for d in found]) if found else np.zeros((0, 4), np.float32)
    scores = np.concatenate([d.scores for d in found])
    labels = np.concatenate([d.labels for d in found])
    tile = np.repeat(np.arange(len(found)), [len(d) for d in found])
    was_cut = _cut_by_seam(boxes, tile, np.array(windows_xyxy, np.float32))
    order = np.lexsort((-scores, was_cut))
    kept: list[int] = []
    for i in order.tolist():
        others = np.array(kept, np.int64)
        others = others[(labels[others] == labels[i]) & (tile[others] != tile[i])]
        if len(others):
            same = iou(boxes[i], boxes[others]) > nms_iou
            if was_cut[i]:
                same |= covered_share(boxes[i], boxes[others]) > 0.5
            if same.any():
                continue
        kept.append(i)
    rows = np.array(kept, np.int64)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    return Detections(boxes[rows], scores[rows], labels[rows])


def _spans(start: int, end: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """`count` spans of one length from `start` to `end`; neighbours share `overlap` of it."""
    length = (end - start) / (count - (count - 1) * overlap)
    step = length * (1 - overlap)
    return [
        (start + round(k * step), end if k == count - 1 else min(end, start + round(k * step + length)))
        for k in range(count)
    ]


def _shifted(found: Detections, by_xy: tuple[int, int]) -> Detections:
    if by_xy == (0, 0):
        return found
    return Detections(found.boxes + np.array(by_xy * 2, np.float32), found.scores, found.labels)


def _cut_by_seam(
    boxes: NDArray[np.float32], tile: NDArray[np.int64], windows: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(N,): whether a box ends at an edge of its tile that is not an edge of all of them."""
    outer = np.concatenate([windows[:, :2].min(0), windows[:, 2:].max(0)])
    edges = windows[tile]
    inner = edges != outer
    at_edge = (np.abs(boxes - edges) <= _SEAM_PX) & inner
    return np.asarray(at_edge.any(1))
