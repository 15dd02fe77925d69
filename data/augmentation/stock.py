"""What is taken from albumentations as it comes. Besides `augment.py` the only file that touches it."""

from __future__ import annotations

import math
import os
from typing import Any

# Without this, importing albumentations asks the network for a newer version of itself.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from albumentations.augmentations.blur.functional import defocus as _defocus  # noqa: E402
from albumentations.augmentations.crops.transforms import BaseCrop  # noqa: E402
from albumentations.augmentations.pixel.functional import image_compression, planckian_jitter  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from data.augmentation.effects.linear import encoded, linear  # noqa: E402

_HUE_STEPS = 180  # OpenCV's 8-bit hue circle
_BLUR_KERNEL_PX = (3, 7)
_GAUSSIAN_SIGMA_PX = (0.3, 1.5)
_WARMEST_K, _NEUTRAL_K, _COLDEST_K = 3800, 6500, 12000


def window_recipe(size_hw: tuple[int, int], scale: tuple[float, float], p: float, min_visibility: float) -> Any:
    """The crop that takes a window out of an image."""
    return _composed([_Window(size_hw[1] / size_hw[0], scale, p)], min_visibility)


def basic_recipe(
    *,
    hflip: float,
    vflip: float,
    rotate90: float,
    brightness: float,
    contrast: float,
    hue: float,
    saturation: float,
    blur: float,
    min_visibility: float,
) -> Any:
    """Flips, turns, colours and blur, in this order."""
    hue_limit, saturation_limit = hue * _HUE_STEPS, saturation * 255
    recolours, tints = float(max(brightness, contrast) > 0), float(max(hue, saturation) > 0)
    # Steps of probability 0 stay in: albumentations warns of a recipe that moves no boxes.
    steps = [
        A.HorizontalFlip(p=hflip),
        A.VerticalFlip(p=vflip),
        A.RandomRotate90(p=rotate90),
        A.RandomBrightnessContrast(brightness, contrast, p=recolours),
        A.HueSaturationValue(hue_limit, saturation_limit, 0, p=tints),
        _blur(blur),
    ]
    return _composed(steps, min_visibility)


def daylight(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The colour of daylight, from the warm hour (3,800 K) to deep blue shade (12,000 K)."""
    end = _WARMEST_K if rng.random() < 0.5 else _COLDEST_K
    # Even steps in 1/K are even to the eye.
    kelvin = round(1 / (1 / _NEUTRAL_K + amount * (1 / end - 1 / _NEUTRAL_K)))
    # Its tables are of light, and it would multiply codes by them: leaves turn orange.
    rgb = cv2.cvtColor(linear(image_bgr), cv2.COLOR_BGR2RGB)
    tinted = planckian_jitter(rgb, kelvin, "blackbody")
    return encoded(np.asarray(cv2.cvtColor(tinted, cv2.COLOR_RGB2BGR), np.float32))


def defocus(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus by up to a disc of 5 px radius."""
    return np.asarray(_defocus(image_bgr, 1 + round(4 * amount), 0.5), np.uint8)


def jpeg(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """JPEG of quality 75 (`amount` 0) to 12 (1)."""
    return np.asarray(image_compression(image_bgr, round(75 - 63 * amount), ".jpg"), np.uint8)


def video(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A video codec starved of bits: VP8's key frames (as WebP stores them), next of kin to H.264's.

    Both predict blocks from their neighbours, quantise and smooth the seams; what differs from JPEG is
    seen alike: smeared texture, and blocks that slide into each other.
    """
    return np.asarray(image_compression(image_bgr, round(30 - 26 * amount), ".webp"), np.uint8)


class _Window(BaseCrop):
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
    # Visibility is judged once, at the end, and not after every step: the same here, and twice as fast.
    # Never by 0: albumentations would keep boxes of which nothing is left, and stumble over them.
    params = A.BboxParams("albumentations", min_visibility=max(min_visibility, 1e-9), check_each_transform=False)
    return A.Compose(steps, bbox_params=params)


def _blur(probability: float) -> Any:
    kinds = [
        A.MotionBlur(blur_limit=_BLUR_KERNEL_PX, p=1.0),
        A.GaussianBlur(blur_limit=0, sigma_limit=_GAUSSIAN_SIGMA_PX, p=1.0),
    ]
    return A.OneOf(kinds, p=probability)
