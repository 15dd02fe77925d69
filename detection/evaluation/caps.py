"""Limits that cost recall in silence: most boxes an image, most into NMS, and COCO's 100 of a class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.coco_matching import MAX_DETECTIONS


def cap_notices(
    dataset: Dataset, *, max_detections: int | None = None, pre_nms_top_k: int | None = None, metrics: bool = True
) -> tuple[str, ...]:
    """A line for each limit that is below the boxes of some images: what cannot be found, and what to change.

    Args:
        dataset: labelled images, or tiles of them.
        max_detections: most boxes that the detector gives an image; None: not known.
        pre_nms_top_k: most boxes into its NMS, per level or class; None: not known, or it has no such limit.
        metrics: also of COCO's limit, which is part of AP's definition and does not limit the detector.

    """
    counts = np.array([int((~image.iscrowd).sum()) for image in dataset.images], np.int64)
    lines = []
    if max_detections is not None and (counts > max_detections).any():
        lines.append(
            f"{_more(counts, max_detections)} that the detector gives: {_found(counts, max_detections)}; raise "
            "postprocess.max_detections, or cut the images into tiles (data.tiles)"
        )
    if pre_nms_top_k is not None and (counts > pre_nms_top_k).any():
        lines.append(
            f"{_more(counts, pre_nms_top_k)} that enter NMS of a level or class: some may be lost; raise "
            "postprocess.pre_nms_top_k, or cut the images into tiles (data.tiles)"
        )
    of_classes = [_of_classes(image, len(dataset.class_names)) for image in dataset.images]
    most = np.array([one.max(initial=0) for one in of_classes], np.int64)
    if metrics and (most > MAX_DETECTIONS).any():
        lines.append(
            f"{_more(most, MAX_DETECTIONS)} of a class that COCO scores in an image: "
            f"{_found(np.concatenate(of_classes), MAX_DETECTIONS)} in AP and AR, whatever the detector finds"
        )
    return tuple(lines)


def _of_classes(image: LabelledImage, classes: int) -> NDArray[np.int64]:
    return np.bincount(image.labels[~image.iscrowd], minlength=classes)


def _more(counts: NDArray[np.int64], most: int) -> str:
    beyond = int((counts > most).sum())
    has = "image has" if beyond == 1 else "images have"
    return f"{beyond} {has} more boxes (up to {counts.max()}) than the {most}"


def _found(counts: NDArray[np.int64], most: int) -> str:
    return f"recall is at most {np.minimum(counts, most).sum() / counts.sum():.3f}"
