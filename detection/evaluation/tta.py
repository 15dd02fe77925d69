"""Flips at test time: one detector, asked four times, its answers made one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.evaluate import ImageDetector, runs_on
from detection.recipe.schema import Recipe
from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

Axes = tuple[bool, bool]
"""Whether an image is mirrored left and right, and top and bottom."""

BOTH: tuple[Axes, ...] = ((False, False), (True, False), (False, True), (True, True))
LEFT_RIGHT: tuple[Axes, ...] = ((False, False), (True, False))

Answer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def views_of(recipe: Recipe | None) -> tuple[Axes, ...]:
    """Which mirrored views a detector of that recipe knows; left and right alone where there is no recipe."""
    return BOTH if recipe is not None and recipe.augment.view == "top_down" else LEFT_RIGHT


class Flipped:
    """A detector that also looks at the mirrored image; it takes as many times as long.

    Args:
        detector: gives its answers unrounded, above a low score.
        views: how it looks at the image.
        match_iou: boxes of one class overlapping at least so much are one thing seen twice.

    """

    def __init__(self, detector: ImageDetector, views: tuple[Axes, ...] = BOTH, *, match_iou: float = 0.55) -> None:
        self._detector, self._views, self._match_iou = detector, views, match_iou
        self.class_names = detector.class_names
        self.runs_on = f"{len(views)} looks an image by {runs_on(detector)}"

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """An image uint8 (H, W, 3) BGR -> detections in its own pixels, highest score first."""
        height, width = image_bgr.shape[:2]
        answers = []
        for across, down in self._views:
            seen = self._detector(np.ascontiguousarray(image_bgr[:: -1 if down else 1, :: -1 if across else 1]))
            boxes = seen.boxes_xyxy.copy()
            if across:
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            if down:
                boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
            answers.append((boxes, seen.scores, seen.labels))
        return Detections(*fused_boxes(answers, match_iou=self._match_iou))


def fused_boxes(answers: list[Answer], *, match_iou: float) -> Answer:
    """Several answers about one image, made one.

    R. Solovyev et al., "Weighted boxes fusion" (Image and Vision Computing 107, 2021): best first, a box joins the
    fused box of its class that it overlaps most, if by `match_iou`; a fused box is the mean of its members, weighed
    by their scores. Its score is their sum over the number of answers, so that what one answer in four saw counts
    a quarter. Of each answer a fused box takes one member: two boxes of one answer are two things.

    Args:
        answers: of each, boxes (n, 4) xyxy, scores (n,), labels (n,).
        match_iou: 0 to 1.

    Returns:
        Boxes, scores and labels, highest score first.

    """
    boxes = np.concatenate([a[0] for a in answers]).astype(np.float64)
    scores = np.concatenate([a[1] for a in answers]).astype(np.float64)
    labels = np.concatenate([a[2] for a in answers])
    source = np.repeat(np.arange(len(answers)), [len(a[1]) for a in answers])
    fused = np.zeros_like(boxes)
    weight = np.zeros(len(boxes))
    owner = np.full(len(boxes), -1)  # of a fused box, its class
    members: list[set[int]] = []
    for n in np.argsort(-scores, kind="stable"):
        count = len(members)
        overlap = iou(boxes[n], fused[:count])
        free = np.array([source[n] not in of for of in members], bool)
        overlap[(owner[:count] != labels[n]) | ~free] = -1
        best = int(overlap.argmax()) if count else -1
        if best < 0 or overlap[best] < match_iou:
            best = count
            members.append(set())
            owner[best] = labels[n]
        total = weight[best] + scores[n]
        fused[best] = (fused[best] * weight[best] + boxes[n] * scores[n]) / total
        weight[best] = total
        members[best].add(int(source[n]))
    count = len(members)
    order = np.argsort(-weight[:count], kind="stable")
    found = fused[:count][order].astype(np.float32), (weight[:count][order] / len(answers)).astype(np.float32)
    return *found, owner[:count][order].astype(np.int64)
