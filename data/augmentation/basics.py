"""Crop, flips, turns, colours and blur, as recipes of albumentations. Importing this imports albumentations."""

from __future__ import annotations

import math
from typing import Any

import albumentations as A
import numpy as np
from albumentations.augmentations.crops.transforms import BaseCrop
from numpy.typing import NDArray

from data.augmentation.settings import AugmentSettings

_HUE_STEPS = 180  # OpenCV's 8-bit hue circle
_BLUR_KERNEL_PX = (3, 7)
_GAUSSIAN_SIGMA_PX = (0.3, 1.5)


def crop_recipe(settings: AugmentSettings, size_hw: tuple[int, int]) -> Any:
    """The crop: a random window whose shape lies between the image's and `size_hw`, the network input's."""
    crop = _Crop(size_hw[1] / size_hw[0], settings.crop_scale, settings.scale_crop)
    return _composed([crop], settings.min_visibility)


def basic_recipe(settings: AugmentSettings) -> Any:
    """Flips, turns, colours and blur, in this order."""
    s = settings
    recolours, tints = float(max(s.brightness, s.contrast) > 0), float(max(s.hue, s.saturation) > 0)
    # Steps of probability 0 stay in: albumentations warns of a recipe that moves no boxes.
    steps = [
        A.HorizontalFlip(p=s.hflip),
        A.VerticalFlip(p=s.vflip),
        A.RandomRotate90(p=s.rotate90),
        A.RandomBrightnessContrast(s.brightness, s.contrast, p=recolours),
        A.HueSaturationValue(s.hue * _HUE_STEPS, s.saturation * 255, 0, p=tints),
        _blur(s.blur),
    ]
    return _composed(steps, s.min_visibility)


class _Crop(BaseCrop):
    """Crop a random window whose shape lies between the image's own and the network input's."""

    def __init__(self, aspect_wh: float, scale: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.aspect_wh = aspect_wh
        self.scale = scale

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window, as `crop_coords` x1, y1, x2, y2 in whole pixels."""
        height, width = params["shape"][:2]
        ends = sorted([math.log(width / height), math.log(self.aspect_wh)])
        aspect_wh = math.exp(self.py_random.uniform(*ends))
        area_px = self.py_random.uniform(*self.scale) * width * height
        window_w, window_h = math.sqrt(area_px * aspect_wh), math.sqrt(area_px / aspect_wh)
        shrink = min(1.0, width / window_w, height / window_h)
        crop_w = min(width, max(1, round(window_w * shrink)))
        crop_h = min(height, max(1, round(window_h * shrink)))
        x1, y1 = self.py_random.randint(0, width - crop_w), self.py_random.randint(0, height - crop_h)
        return {"crop_coords": (x1, y1, x1 + crop_w, y1 + crop_h)}

    def apply_to_bboxes(
        self, bboxes: NDArray[np.float64], crop_coords: tuple[int, int, int, int], **params: Any
    ) -> NDArray[np.float64]:
        """Rows of fractions of the image -> of the window; its parent does this in float32."""
        height, width = params["shape"][:2]
        x1, y1, x2, y2 = crop_coords
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * width - x1) / (x2 - x1)
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * height - y1) / (y2 - y1)
        return moved


def _composed(steps: list[Any], min_visibility: float) -> Any:
    # Visibility is checked once, at the end, and not after every step: the same here, and twice as fast.
    # Never 0: albumentations would keep boxes of which nothing is left, and fail on them.
    params = A.BboxParams("albumentations", min_visibility=max(min_visibility, 1e-9), check_each_transform=False)
    return A.Compose(steps, bbox_params=params)


def _blur(probability: float) -> Any:
    kinds = [
        A.MotionBlur(blur_limit=_BLUR_KERNEL_PX, p=1.0),
        A.GaussianBlur(blur_limit=0, sigma_limit=_GAUSSIAN_SIGMA_PX, p=1.0),
    ]
    return A.OneOf(kinds, p=probability)
