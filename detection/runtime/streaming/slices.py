"""`FrameSlicer`: which slices (tiles) of a frame the network sees, and how their detections are merged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import covered_share, iou
from detection.runtime.detections import Detections

if TYPE_CHECKING:  # a machine's YAML is checked with this file; it must not load a backend for that
    from detection.runtime.backends.contract import Raw
    from detection.runtime.detector import Detector, Prepared

Window = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels of the frame; x2 and y2 lie outside."""

_SEAM_PX = 2.0
"""A box that ends so near to an inner edge of its slice is taken to be cut by it."""


def checked_roi(roi_xyxy: Window | None) -> Window | None:
    """A region of interest, as it was given.

    Raises:
        ValueError: it has no area, or begins left of or above the frame.

    """
    if roi_xyxy is not None:
        x1, y1, x2, y2 = roi_xyxy
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise ValueError("a region of interest is x1,y1,x2,y2 with 0 <= x1 < x2 and 0 <= y1 < y2")
    return roi_xyxy


def checked_tiles(tiles_rc: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles, as they were given.

    Raises:
        ValueError: less than one of them.

    """
    if min(tiles_rc) < 1:
        raise ValueError("tiles are ROWSxCOLUMNS, at least 1x1")
    return tiles_rc


def checked_overlap(overlap: float) -> float:
    """Overlap of neighbouring tiles, as it was given.

    Raises:
        ValueError: below 0, or 1 and more.

    """
    if not 0 <= overlap < 1:
        raise ValueError("the overlap of tiles must be at least 0 and below 1")
    return overlap


@dataclass(frozen=True)
class FrameSlicer:
    """Which parts of a camera's frames the network sees: a region of interest, divided into tiles.

        slicer = FrameSlicer(roi_xyxy=(0, 200, 1920, 1080), tiles_rc=(1, 2))
        run_stream(detector, [source], outputs, StreamOptions(slicers={source.camera: slicer}))

    The machine's YAML and the command line are checked by the same functions, with the same messages.

    Attributes:
        roi_xyxy: the region of interest in whole pixels, x2 and y2 outside; None is the whole frame. What lies
            beyond the frame is left out.
        tiles_rc: rows and columns of tiles that the region is divided into. Each tile is fitted to the network's
            input by itself, so small plants in a large image stay large enough to be found; each costs as much
            time as an image.
        overlap: of neighbouring tiles, as a fraction of a tile's side, 0 to below 1. A plant smaller than the
            overlap is whole in at least one tile.

    Raises:
        ValueError: a region without pixels, no tiles, or an overlap outside 0 to 1.

    """

    roi_xyxy: Window | None = None
    tiles_rc: tuple[int, int] = (1, 1)
    overlap: float = 0.2

    def __post_init__(self) -> None:
        checked_roi(self.roi_xyxy)
        checked_tiles(self.tiles_rc)
        checked_overlap(self.overlap)

    def windows(self, image_hw: tuple[int, int]) -> list[Window]:
        """The slices of a frame of `image_hw`; empty where the region lies outside it."""
        height, width = image_hw
        left, top, right, bottom = self.roi_xyxy or (0, 0, width, height)
        right, bottom = min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return []
        rows = _spans(top, bottom, self.tiles_rc[0], self.overlap)
        columns = _spans(left, right, self.tiles_rc[1], self.overlap)
        return [(x1, y1, x2, y2) for (y1, y2), (x1, x2) in product(rows, columns)]

    def check_frame(self, image_hw: tuple[int, int]) -> None:
        """Check that the region lies inside the camera's frames.

        A stream goes on with the part that does (a camera may change its resolution); who sets up a machine
        wants to know.

        Raises:
            ValueError: it reaches beyond a frame of `image_hw`.

        """
        height, width = image_hw
        if self.roi_xyxy is not None and (self.roi_xyxy[2] > width or self.roi_xyxy[3] > height):
            region = ",".join(map(str, self.roi_xyxy))
            raise ValueError(f"region {region} reaches beyond the frame of {width} x {height}")


WHOLE_FRAME = FrameSlicer()
"""The whole frame at once."""


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of one frame, fitted to the network's input.

    Attributes:
        windows_xyxy: where each slice lies in the frame, in whole pixels.
        prepared: each slice's pixels and placement, in the same order.

    """

    windows_xyxy: tuple[Window, ...]
    prepared: tuple[Prepared, ...]


def slice_frame(detector: Detector, image_bgr: NDArray[np.uint8], slicer: FrameSlicer) -> Slices:
    """The slices of an image, uint8 (H, W, 3), ready for `detector.infer`."""
    windows = slicer.windows((image_bgr.shape[0], image_bgr.shape[1]))
    return Slices(tuple(windows), tuple(detector.prepare(image_bgr[y1:y2, x1:x2]) for x1, y1, x2, y2 in windows))


def is_full(
    scores: NDArray[np.float32], labels: NDArray[np.int64], thresholds: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Whether the last place of each row (N, K) holds a box above its class's threshold: more may be there."""
    last, label = scores[:, -1], np.clip(labels[:, -1], 0, len(thresholds) - 1)
    return np.asarray((last > 0) & (labels[:, -1] >= 0) & (last >= thresholds[label]))


def merged_detections(
    detector: Detector, raw: Raw, first_row: int, slices: Slices, score_thresholds: NDArray[np.float32] | None = None
) -> Detections:
    """The detections of one frame from its slices' rows of `raw`.

    Args:
        detector: gave `raw`.
        raw: one row per slice, this frame's together.
        first_row: that of its first slice.
        slices: from `slice_frame`.
        score_thresholds: float32 (classes,), minimum score of a reported box; None: those in force.

    Returns:
        Boxes in pixels of the frame, highest score first.

    """
    found = []
    for row, (window, prepared) in enumerate(zip(slices.windows_xyxy, slices.prepared, strict=True), first_row):
        here = detector.finish(raw, row, prepared.placement, score_thresholds)
        found.append(_shifted(here, window[:2]))
    if len(found) == 1:
        return found[0]
    return merge_slices(found, slices.windows_xyxy, detector.metadata.nms_iou) if found else Detections.empty()


def merge_slices(found: list[Detections], windows_xyxy: tuple[Window, ...], nms_iou: float) -> Detections:
    """Remove duplicates of plants that several slices saw.

    Within a slice the graph has suppressed duplicates already. Of two boxes of one class from different
    slices one is removed where they overlap by more than `nms_iou`, or where one that a seam cut lies in the
    other by more than half (the rest of a plant whose whole is in the neighbour: its overlap is small,
    its share is not). Whole boxes come before cut ones, then the higher score.

    Args:
        found: per slice, boxes in pixels of the frame.
        windows_xyxy: per slice.
        nms_iou: intersection over union above which two boxes are one object.

    Returns:
        Highest score first.

    """
    boxes = np.concatenate([d.boxes_xyxy for d in found]) if found else np.zeros((0, 4), np.float32)
    scores = np.concatenate([d.scores for d in found])
    labels = np.concatenate([d.labels for d in found])
    origin = np.repeat(np.arange(len(found)), [len(d) for d in found])
    was_cut = _cut_by_seam(boxes, origin, np.array(windows_xyxy, np.float32))
    order = np.lexsort((-scores, was_cut))
    kept: list[int] = []
    for i in order.tolist():
        others = np.array(kept, np.int64)
        others = others[(labels[others] == labels[i]) & (origin[others] != origin[i])]
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
    return Detections(found.boxes_xyxy + np.array(by_xy * 2, np.float32), found.scores, found.labels)


def _cut_by_seam(
    boxes_xyxy: NDArray[np.float32], origin: NDArray[np.int64], windows_xyxy: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """(N,): whether a box ends at an edge of its slice that is not an edge of the region."""
    outer = np.concatenate([windows_xyxy[:, :2].min(0), windows_xyxy[:, 2:].max(0)])
    edges = windows_xyxy[origin]
    inner = edges != outer
    at_edge = (np.abs(boxes_xyxy - edges) <= _SEAM_PX) & inner
    return np.asarray(at_edge.any(1))
