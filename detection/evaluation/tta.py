"""Test-time augmentation (TTA): a detector runs on the image and on flipped copies, and the detections are fused."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.detectors import ImageDetector, runs_on
from detection.runtime.boxes import iou
from detection.runtime.detections import Detections

Flip = tuple[bool, bool]
"""Whether an image is flipped left-right, and up-down."""

FOUR_FLIPS: tuple[Flip, ...] = ((False, False), (True, False), (False, True), (True, True))
TWO_FLIPS: tuple[Flip, ...] = ((False, False), (True, False))

BoxArrays = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Boxes (n, 4) xyxy, scores (n,) and labels (n,)."""


def flips_of(view: str | None) -> tuple[Flip, ...]:
    """The flips under which a camera's images still look natural.

    Args:
        view: the recipe's `augment.view`; from `top_down` every flip is natural, else, and if None, left-right only.

    """
    return FOUR_FLIPS if view == "top_down" else TWO_FLIPS


class FlipTTA:
    """A detector with flip augmentation at test time; one call costs as much as `len(flips)` of the detector.

        detector = FlipTTA(load_detector(Path("runs/weeds")), flips_of("top_down"))

    Args:
        detector: with a low score threshold.
        flips: of the image, the identity included.
        match_iou: boxes of one class with at least this IoU are fused.

    """

    def __init__(
        self, detector: ImageDetector, flips: tuple[Flip, ...] = FOUR_FLIPS, *, match_iou: float = 0.55
    ) -> None:
        self._detector, self._flips, self._match_iou = detector, flips, match_iou
        self.class_names = detector.class_names
        self.runs_on = f"TTA with {len(flips)} flips, {runs_on(detector)}"

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """An image uint8 (H, W, 3) BGR -> detections in its own pixels, highest score first."""
        height, width = image_bgr.shape[:2]
        outputs = []
        for left_right, up_down in self._flips:
            rows, columns = slice(None, None, -1 if up_down else 1), slice(None, None, -1 if left_right else 1)
            found = self._detector(np.ascontiguousarray(image_bgr[rows, columns]))
            boxes = found.boxes_xyxy.copy()
            if left_right:
                boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            if up_down:
                boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
            outputs.append((boxes, found.scores, found.labels))
        return Detections(*fused_boxes(outputs, match_iou=self._match_iou))


def fused_boxes(outputs: list[BoxArrays], *, match_iou: float) -> BoxArrays:
    """Fuse several detectors' boxes of one image by weighted boxes fusion.

    R. Solovyev et al., "Weighted boxes fusion" (Image and Vision Computing 107, 2021): best first, a box joins the
    fused box of its class with the highest IoU, if that is at least `match_iou`; a fused box is the mean of its
    members, weighted by their scores. Its score is their sum over the number of outputs, so that a box in one of four
    outputs counts a quarter. A fused box takes at most one member from each output: two boxes of one output are two
    objects.

    Args:
        outputs: boxes, scores and labels of each.
        match_iou: 0 to 1.

    Returns:
        Boxes, scores and labels, highest score first.

    """
    boxes = np.concatenate([output[0] for output in outputs]).astype(np.float64)
    scores = np.concatenate([output[1] for output in outputs]).astype(np.float64)
    labels = np.concatenate([output[2] for output in outputs])
    source = np.repeat(np.arange(len(outputs)), [len(output[1]) for output in outputs])
    fused = np.zeros_like(boxes)
    weight = np.zeros(len(boxes))
    fused_label = np.full(len(boxes), -1)
    members: list[set[int]] = []
    for n in np.argsort(-scores, kind="stable"):
        count = len(members)
        overlap = iou(boxes[n], fused[:count])
        free = np.array([source[n] not in of for of in members], bool)
        overlap[(fused_label[:count] != labels[n]) | ~free] = -1
        best = int(overlap.argmax()) if count else -1
        if best < 0 or overlap[best] < match_iou:
            best = count
            members.append(set())
            fused_label[best] = labels[n]
        total = weight[best] + scores[n]
        fused[best] = (fused[best] * weight[best] + boxes[n] * scores[n]) / total
        weight[best] = total
        members[best].add(int(source[n]))
    count = len(members)
    order = np.argsort(-weight[:count], kind="stable")
    found = fused[:count][order].astype(np.float32), (weight[:count][order] / len(outputs)).astype(np.float32)
    return *found, fused_label[:count][order].astype(np.int64)
