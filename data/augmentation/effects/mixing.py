"""One training image made of several: mosaic, mixup, and plants copied from one field into another."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import Draw, Effect, EffectSettings
from data.augmentation.effects.linear import ramp
from data.augmentation.sample import Sample, cut_to_frame, resized

_FREE_SHARE = 0.05  # a plant is copied, and pasted, only where boxes share less than this of its area
_TRIES = 16
_LEAST_PLANT_PX, _LARGEST_PLANT = 6, 0.4  # of the shorter side
_RIM_ALPHA = 0.65  # of a plant's outermost pixels: as soft as a lens shows them


def mosaic(
    samples: Sequence[Sample], size_hw: tuple[int, int], rng: np.random.Generator, *, min_visibility: float
) -> Sample:
    """Four images, each a window in its own quarter of a frame, divided near the middle.

    Bochkovskiy et al., "YOLOv4" (2020). Every quarter is filled: no grey, and nothing seen twice.

    Args:
        samples: four of them; they are shown at 0.5 to 1 times their size, larger only where one would
            not fill its quarter.
        size_hw: of the frame.
        rng: for the division, windows and scales.
        min_visibility: boxes with less of their area inside their window are dropped.

    Returns:
        The sample; its boxes are float64, its labels in the order of `samples`.

    """
    rows, columns = size_hw
    if len(samples) != 4 or min(size_hw) < 2:
        raise ValueError(f"a mosaic is made of 4 samples in a frame of 2 x 2 or more, got {len(samples)}, {size_hw}")
    cross_y = min(max(1, round(rows * float(rng.uniform(0.3, 0.7)))), rows - 1)
    cross_x = min(max(1, round(columns * float(rng.uniform(0.3, 0.7)))), columns - 1)
    canvas = np.empty((rows, columns, 3), np.uint8)
    boxes, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
    for number, sample in enumerate(samples):
        top, bottom = (0, cross_y) if number < 2 else (cross_y, rows)
        left, right = (0, cross_x) if number % 2 == 0 else (cross_x, columns)
        part = _window(sample, (bottom - top, right - left), float(rng.uniform(0.5, 1)), rng, min_visibility)
        canvas[top:bottom, left:right] = part.image_bgr
        boxes.append(part.boxes_xyxy + np.array([left, top, left, top]))
        labels.append(part.labels)
    return Sample(canvas, np.concatenate(boxes), np.concatenate(labels))


def mixup(first: Sample, second: Sample, rng: np.random.Generator, *, min_visibility: float) -> Sample:
    """Two images blended, with a weight of 0.4 to 0.6, with the boxes of both.

    Zhang et al., "mixup" (ICLR 2018), as detectors use it: Zhang et al., "Bag of Freebies" (2019).

    Returns:
        A sample of the size of `first`; its boxes come first.

    """
    size_hw = first.image_bgr.shape[:2]
    over = _window(second, (size_hw[0], size_hw[1]), 1.0, rng, min_visibility)
    share = float(rng.uniform(0.4, 0.6))
    image = cv2.addWeighted(first.image_bgr, share, over.image_bgr, 1 - share, 0)
    boxes = np.concatenate([np.asarray(first.boxes_xyxy, np.float64).reshape(-1, 4), over.boxes_xyxy])
    return Sample(np.asarray(image, np.uint8), boxes, np.concatenate([first.labels, over.labels]))


def copy_paste(
    field: Sample, donor: Sample, rng: np.random.Generator, *, most: int, any_turn: bool, max_gain: float = 1.4
) -> Sample:
    """Plants cut out of `donor` along their own outline and pasted where `field` has no box.

    Ghiasi et al., "Simple Copy-Paste" (CVPR 2021). There are no masks: what differs in colour from the
    rim of the ground around its box is the plant. A box without a clear outline, or one that overlaps
    another, is not copied.

    Args:
        field: where to.
        donor: where from.
        rng: chooses plants, turns and places.
        most: plants to copy at most.
        any_turn: all eight flips and turns; otherwise only left and right are exchanged.
        max_gain: the plant is made lighter or darker by up to this factor, to match its new ground.

    Returns:
        A new sample; boxes float64: those of `field`, then one tight around each plant pasted.

    """
    image = field.image_bgr.copy()
    boxes = list(np.asarray(field.boxes_xyxy, np.float64).reshape(-1, 4))
    labels = list(field.labels)
    rows, columns = image.shape[:2]
    donors = np.asarray(donor.boxes_xyxy, np.float64).reshape(-1, 4)
    pasted = 0
    for index in rng.permutation(len(donors)):
        if pasted == most:
            break
        cut = _plant(donor.image_bgr, donors, int(index))
        if cut is None:
            continue
        pixels, alpha, ground = cut
        flips, turns = rng.integers(0, 2), rng.integers(0, 4)
        if flips:
            pixels, alpha = pixels[:, ::-1], alpha[:, ::-1]
        if any_turn:
            pixels, alpha = np.rot90(pixels, int(turns)), np.rot90(alpha, int(turns))
        high, wide = alpha.shape
        if max(high, wide) > _LARGEST_PLANT * min(rows, columns):
            continue
        ys, xs = np.nonzero(alpha > 0.5)
        tight = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float64)
        for _ in range(_TRIES):
            left, top = int(rng.integers(0, columns - wide + 1)), int(rng.integers(0, rows - high + 1))
            place = tight + (left, top, left, top)
            if _covered(place, np.array(boxes).reshape(-1, 4)) > _FREE_SHARE:
                continue
            there = image[top : top + high, left : left + wide]
            gain = np.clip((there.mean() + 8) / (ground + 8), 1 / max_gain, max_gain)
            plant = np.minimum(pixels * gain, 255)
            there[:] = np.rint(there + alpha[..., None] * (plant - there)).astype(np.uint8)
            boxes.append(place)
            labels.append(donor.labels[index])
            pasted += 1
            break
    return Sample(image, np.array(boxes, np.float64).reshape(-1, 4), np.array(labels, np.int64))


def _window(
    sample: Sample, size_hw: tuple[int, int], scale: float, rng: np.random.Generator, min_visibility: float
) -> Sample:
    """A random window of the sample that fills `size_hw` when shown at `scale`, or larger if it must."""
    (rows, columns), (height, width) = sample.image_bgr.shape[:2], size_hw
    scale = max(scale, height / rows, width / columns)
    window_h, window_w = min(rows, max(1, round(height / scale))), min(columns, max(1, round(width / scale)))
    top, left = int(rng.integers(0, rows - window_h + 1)), int(rng.integers(0, columns - window_w + 1))
    image = sample.image_bgr[top : top + window_h, left : left + window_w]
    boxes = np.asarray(sample.boxes_xyxy, np.float64).reshape(-1, 4) - (left, top, left, top)
    return resized(cut_to_frame(Sample(image, boxes, sample.labels), min_visibility), size_hw)


def _plant(
    image_bgr: NDArray[np.uint8], boxes: NDArray[np.float64], index: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], float] | None:
    """Pixels (h, w, 3), alpha (h, w) 0 to 1, and the mean of the ground around; None if there is no clear plant."""
    rows, columns = image_bgr.shape[:2]
    x1, y1 = np.maximum(np.floor(boxes[index, :2] + 1e-3), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(boxes[index, 2:] - 1e-3), (columns, rows)).astype(int)
    if min(x2 - x1, y2 - y1) < _LEAST_PLANT_PX:
        return None
    if _covered(boxes[index], np.delete(boxes, index, axis=0)) > _FREE_SHARE:
        return None
    rim = max(3, round(0.12 * max(x2 - x1, y2 - y1)))
    left, top, right, bottom = max(0, x1 - rim), max(0, y1 - rim), min(columns, x2 + rim), min(rows, y2 + rim)
    around = cv2.cvtColor(image_bgr[top:bottom, left:right], cv2.COLOR_BGR2LAB).astype(np.float32)
    outside = np.ones(around.shape[:2], bool)
    outside[y1 - top : y2 - top, x1 - left : x2 - left] = False
    if outside.sum() < 12:
        return None
    rim_colours = around[outside]
    ground = np.median(rim_colours, axis=0)
    weight = np.array([0.35, 1.0, 1.0], np.float32)  # colour says plant, lightness may be a stone's shadow
    usual = float(np.quantile(np.linalg.norm((rim_colours - ground) * weight, axis=1), 0.8))
    far = np.linalg.norm((around - ground) * weight, axis=2)[y1 - top : y2 - top, x1 - left : x2 - left]
    alpha = ramp(far.astype(np.float32), usual + 2, usual + 12)
    body = cv2.morphologyEx((alpha > 0.5).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(body, connectivity=8)
    if count < 2:
        return None
    large = stats[:, cv2.CC_STAT_AREA] >= 0.04 * stats[1:, cv2.CC_STAT_AREA].max()
    large[0] = False
    body = large[pieces].astype(np.uint8)
    if not 0.15 <= body.mean() or cv2.boundingRect(body)[2] < 0.6 * (x2 - x1) or (
        cv2.boundingRect(body)[3] < 0.6 * (y2 - y1)
    ):  # fmt: skip
        return None
    # Softened inwards only, so that no rim of the old ground is copied and the outline stays the same.
    core = cv2.erode(body, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    soft = np.where(core > 0, 1.0, _RIM_ALPHA * body).astype(np.float32)
    pixels = image_bgr[y1:y2, x1:x2].astype(np.float32)
    return pixels, soft, float(image_bgr[top:bottom, left:right][outside].mean())


def _covered(box: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The largest share of `box` that one of `others` (N, 4) covers, 0 to 1."""
    if not len(others):
        return 0.0
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).max() / np.prod(box[2:] - box[:2]))


def _mosaic(sample: Sample, draw: Draw[EffectSettings]) -> Sample:
    rows, columns = sample.image_bgr.shape[:2]
    # An image of one row or column cannot be divided into four.
    frame_hw = (max(2, rows), max(2, columns))
    return mosaic([sample, *draw.others], frame_hw, draw.rng, min_visibility=draw.min_visibility)


def _copied(sample: Sample, draw: Draw[EffectSettings]) -> Sample:
    most = 1 + round(4 * draw.amount)
    return copy_paste(sample, draw.others[0], draw.rng, most=most, any_turn=draw.on_ground)


def _mixed_up(sample: Sample, draw: Draw[EffectSettings]) -> Sample:
    return mixup(sample, draw.others[0], draw.rng, min_visibility=draw.min_visibility)


MOSAIC = Effect(
    "mosaic",
    "mix",
    _mosaic,
    title="Mosaic",
    caption="four images in one",
    description="four images in one",
    others=3,
    replaces_crop=True,
)
COPY_PASTE = Effect(
    "copy_paste",
    "mix",
    _copied,
    title="Copied plants",
    caption="cut out along their outline, pasted where there is no box",
    description="plants copied in from another image",
    others=1,
)
MIXUP = Effect(
    "mixup",
    "mix",
    _mixed_up,
    title="Mixup",
    caption="another image showing through",
    description="another image showing through",
    others=1,
)
