"""How an image is fitted to the network's input, and the inverse.

Training, evaluation, the parity check and the robot all use this file; the rule's name is stored in
the model file, so that a robot refuses a file made with another rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RULE = "top-left, halved"
"""Scale by one factor until the image just fits, place it top left, fill the rest with `PAD_VALUE`.

As long as it is at least twice too large it is halved: each pixel the mean of four, an odd last row or
column left out (in all less than a pixel of the input). What remains, a factor below two, goes along
straight lines between pixel centres: nothing as large as a pixel of the input falls between them. Grain
and aliases are nearly those of averaging areas by the whole factor, for a third to a tenth of its time
(docs/design/letterbox.md).
"""

PAD_VALUE = 114
"""Grey level of the filled part, 0 to 255."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes:
        scale_xy: input pixels per image pixel along x and y. They differ by the rounding to
            whole pixels only; both are kept so that the inverse is exact.
        image_hw: height and width of the image in pixels.
        fitted_hw: height and width of the fitted image in the input.

    """

    scale_xy: tuple[float, float]
    image_hw: tuple[int, int]
    fitted_hw: tuple[int, int]

    def to_input(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) in image pixels -> boxes (N, 4) in input pixels."""
        boxes: NDArray[np.float32] = (boxes_xyxy * (*self.scale_xy, *self.scale_xy)).astype(np.float32)
        return boxes

    def to_image(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) in input pixels -> boxes (N, 4) in image pixels, clipped to the image."""
        height, width = self.image_hw
        unscaled = boxes_xyxy / (*self.scale_xy, *self.scale_xy)
        boxes: NDArray[np.float32] = unscaled.clip(0, (width, height, width, height)).astype(np.float32)
        return boxes


def placement(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Placement:
    """How an image of `image_hw` lies in an input of `size_hw`."""
    (rows, columns), (input_h, input_w) = image_hw, size_hw
    per_y = per_x = 1  # pixels of the image to one of the halved image
    while rows >= 2 * input_h or columns >= 2 * input_w:
        if rows > 1:
            rows, per_y = rows // 2, 2 * per_y
        if columns > 1:
            columns, per_x = columns // 2, 2 * per_x
    scale = min(input_h / rows, input_w / columns)
    fitted_h = min(input_h, max(1, round(rows * scale)))
    fitted_w = min(input_w, max(1, round(columns * scale)))
    scale_xy = (fitted_w / (columns * per_x), fitted_h / (rows * per_y))
    return Placement(scale_xy, image_hw, (fitted_h, fitted_w))


def letterbox(image_bgr: NDArray[np.uint8], size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], Placement]:
    """Fit an image to the network's input. The one place where BGR becomes RGB.

    Args:
        image_bgr: uint8 (H, W, 3), any size.
        size_hw: height and width of the input.

    Returns:
        The input, uint8 (size_h, size_w, 3) RGB, and the placement that maps boxes back.

    """
    place = placement((image_bgr.shape[0], image_bgr.shape[1]), size_hw)
    fitted_h, fitted_w = place.fitted_hw
    image = image_bgr
    while image.shape[0] >= 2 * size_hw[0] or image.shape[1] >= 2 * size_hw[1]:
        rows, columns = max(1, image.shape[0] // 2), max(1, image.shape[1] // 2)
        # by exactly two is OpenCV's fast path
        image = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    if image.shape[:2] != place.fitted_hw:
        image = cv2.resize(image, (fitted_w, fitted_h), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    canvas = np.empty((*size_hw, 3), np.uint8)
    cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=canvas[:fitted_h, :fitted_w])
    canvas[fitted_h:] = PAD_VALUE
    canvas[:fitted_h, fitted_w:] = PAD_VALUE
    return canvas, place
