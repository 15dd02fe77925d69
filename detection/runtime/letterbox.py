"""The one rule by which a picture is fitted to the network's input, and its inverse.

Training, evaluation, the export check and the robot all call this file; the rule is written into
the model file by its name, so that a robot refuses a file made by another rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RULE = "top-left"
"""Scale by one factor until the picture just fits, place it top left, fill the rest with `PAD_VALUE`."""

PAD_VALUE = 114
"""Grey level of the filled part, 0 to 255."""


@dataclass(frozen=True)
class Placement:
    """Where one picture came to lie in the network's input.

    Attributes:
        scale_xy: input pixels per picture pixel along x and y. They differ by the rounding to
            whole pixels only; keeping both makes the inverse exact.
        picture_hw: height and width of the picture in pixels.

    """

    scale_xy: tuple[float, float]
    picture_hw: tuple[int, int]

    def to_input(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) in picture pixels -> boxes (N, 4) in input pixels."""
        boxes: NDArray[np.float32] = (boxes_xyxy * np.tile(self.scale_xy, 2)).astype(np.float32)
        return boxes

    def to_picture(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (N, 4) in input pixels -> boxes (N, 4) in picture pixels, clipped to the picture."""
        height, width = self.picture_hw
        unscaled = boxes_xyxy / np.tile(self.scale_xy, 2)
        boxes: NDArray[np.float32] = np.clip(unscaled, 0, [width, height, width, height]).astype(np.float32)
        return boxes


def placement(picture_hw: tuple[int, int], size_hw: tuple[int, int]) -> Placement:
    """How a picture of `picture_hw` lies in an input of `size_hw`."""
    (height, width), (input_h, input_w) = picture_hw, size_hw
    scale = min(input_h / height, input_w / width)
    fitted_w = min(input_w, max(1, round(width * scale)))
    fitted_h = min(input_h, max(1, round(height * scale)))
    return Placement((fitted_w / width, fitted_h / height), picture_hw)


def letterbox(image_bgr: NDArray[np.uint8], size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], Placement]:
    """Fit a picture to the network's input. The one place where BGR becomes RGB.

    Args:
        image_bgr: uint8 (H, W, 3), any size.
        size_hw: height and width of the input.

    Returns:
        The input, uint8 (size_h, size_w, 3) RGB, and the placement that takes boxes back.

    """
    height, width = image_bgr.shape[:2]
    place = placement((height, width), size_hw)
    fitted_wh = (round(width * place.scale_xy[0]), round(height * place.scale_xy[1]))
    canvas = np.empty((*size_hw, 3), np.uint8)
    fitted = canvas[: fitted_wh[1], : fitted_wh[0]]
    if fitted_wh == (width, height):
        cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB, dst=fitted)
    else:
        # Shrinking by pixel areas: small weeds survive it, where INTER_LINEAR skips over rows of them.
        shrinks = fitted_wh[0] < width
        small = cv2.resize(image_bgr, fitted_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        cv2.cvtColor(small, cv2.COLOR_BGR2RGB, dst=fitted)
    canvas[fitted_wh[1] :] = PAD_VALUE
    canvas[: fitted_wh[1], fitted_wh[0] :] = PAD_VALUE
    return canvas, place
