"""The augmentation recipe. The only file that touches albumentations."""

from __future__ import annotations

import math
import os
import random
from typing import Any

# Without this, importing albumentations asks the network for a newer version of itself.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from albumentations.augmentations.crops.transforms import BaseCrop  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

_HUE_STEPS = 180  # OpenCV's 8-bit hue circle
_BLUR_KERNEL_PX = (3, 7)
_GAUSSIAN_SIGMA_PX = (0.3, 1.5)


class Augment:
    """Flip, turn, crop, recolour and blur a picture together with its boxes; the same for the same seed.

    The crop takes a window out of the picture and does not resize it: fitting to the network's input
    stays the letterbox's business, so that training sees the pixels that the robot will see.

    Args:
        size_hw: the network's input; a crop's shape lies between the picture's and this one's.
        hflip: probability of mirroring left to right.
        vflip: probability of mirroring top to bottom.
        rotate90: probability of drawing one of 0, 1, 2 or 3 quarter turns.
        scale_crop: probability of cropping.
        crop_scale: smallest and largest crop, as fractions of the picture's area.
        brightness: largest change, as a fraction of full white, either way.
        contrast: largest change of the contrast factor, either way.
        hue: largest shift, as a fraction of the colour circle, either way. Small: green means plant.
        saturation: largest shift, as a fraction of full saturation, either way.
        blur: probability of a motion or Gaussian blur of up to 7 px.
        min_visibility: boxes with less than this fraction of their area left by the crop are dropped.

    Raises:
        ValueError: a number out of its range.

    """

    def __init__(
        self,
        *,
        size_hw: tuple[int, int],
        hflip: float = 0.5,
        vflip: float = 0.5,
        rotate90: float = 0.5,
        scale_crop: float = 0.7,
        crop_scale: tuple[float, float] = (0.4, 1.0),
        brightness: float = 0.25,
        contrast: float = 0.25,
        hue: float = 0.015,
        saturation: float = 0.15,
        blur: float = 0.1,
        min_visibility: float = 0.3,
    ) -> None:
        fractions = {
            "hflip": hflip,
            "vflip": vflip,
            "rotate90": rotate90,
            "scale_crop": scale_crop,
            "brightness": brightness,
            "contrast": contrast,
            "hue": hue,
            "saturation": saturation,
            "blur": blur,
            "min_visibility": min_visibility,
        }
        for name, value in fractions.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {value}")
        if not 0.0 < crop_scale[0] <= crop_scale[1] <= 1.0:
            raise ValueError(f"crop_scale must be 0 < smallest <= largest <= 1, got {crop_scale}")
        if min(size_hw) < 1:
            raise ValueError(f"size_hw must be positive, got {size_hw}")
        self._size_hw, self._turns = size_hw, rotate90 > 0
        self._smallest_crop = crop_scale[0] if scale_crop > 0 else None
        hue_limit, saturation_limit = hue * _HUE_STEPS, saturation * 255
        recolours, tints = float(max(brightness, contrast) > 0), float(max(hue, saturation) > 0)
        # Steps of probability 0 stay in: albumentations warns of a recipe that moves no boxes.
        steps = [
            _Window(size_hw[1] / size_hw[0], crop_scale, scale_crop),
            A.HorizontalFlip(p=hflip),
            A.VerticalFlip(p=vflip),
            A.RandomRotate90(p=rotate90),
            A.RandomBrightnessContrast(brightness, contrast, p=recolours),
            A.HueSaturationValue(hue_limit, saturation_limit, 0, p=tints),
            _blur(blur),
        ]
        # Visibility is judged once, at the end, and not after every step: the same here, and twice as fast.
        # Never by 0: albumentations would keep boxes of which nothing is left, and stumble over them.
        params = A.BboxParams("albumentations", min_visibility=max(min_visibility, 1e-9), check_each_transform=False)
        self._recipe = A.Compose(steps, bbox_params=params)

    def scale_range(self, picture_hw: tuple[int, int]) -> tuple[float, float]:
        """The fewest and the most input pixels that a pixel of the picture can become, whatever is drawn.

        The loader decides by it how much of a picture's resolution to decode. It holds for a fit that
        scales both sides alike until the crop just fits into the input, up to whole pixels.

        Args:
            picture_hw: height and width of the picture in pixels.

        """
        (height, width), (input_h, input_w) = picture_hw, self._size_hw
        smallest = largest = min(input_h / height, input_w / width)
        if self._turns:
            turned = min(input_h / width, input_w / height)
            smallest, largest = min(smallest, turned), max(largest, turned)
        if self._smallest_crop is not None:
            # A window of the input's own shape is enlarged most; where the drawn area does not fit into
            # the picture in that shape, `_Window` shrinks it until it does.
            widest_w = min(width, height * input_w / input_h)
            fitting_px = widest_w * (widest_w * input_h / input_w)
            least_px = min(self._smallest_crop * height * width, fitting_px)
            largest = max(largest, math.sqrt(input_h * input_w / least_px))
        return smallest, largest

    def __call__(
        self,
        image_bgr: NDArray[np.uint8],
        boxes_xyxy: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        seed: int,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Augment one picture; the arguments are left as they are.

        Args:
            image_bgr: uint8 (H, W, 3), BGR.
            boxes_xyxy: float32 (N, 4), absolute pixels, inside the picture, N may be 0.
            labels: int64 (N,).
            seed: 0 or more; the same seed does the same to the same picture.

        Returns:
            The picture uint8 (H', W', 3) BGR, its boxes float32 (M, 4) in pixels of that picture, and
            their labels int64 (M,), M <= N.

        """
        # One generator for all steps: `Compose.set_random_seed` would give each step the same one, and
        # then flips and turns, drawing equal numbers, always come together or not at all.
        self._recipe.set_random_state(np.random.default_rng(seed), random.Random(seed))
        # Fractions in float64, made here: albumentations' own conversion from pixels goes through float32.
        fractions = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) / _frame(image_bgr)
        rows = np.column_stack([fractions, np.arange(len(fractions), dtype=np.float64)])
        done = self._recipe(image=cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), bboxes=rows)
        image = cv2.cvtColor(done["image"], cv2.COLOR_RGB2BGR)
        left = np.asarray(done["bboxes"], np.float64)
        if not left.size:  # albumentations forgets the columns of an empty result
            left = left.reshape(0, 5)
        boxes = (np.clip(left[:, :4], 0, 1) * _frame(image)).astype(np.float32)
        return np.asarray(image, np.uint8), boxes, np.asarray(labels, np.int64)[left[:, 4].astype(np.int64)]


def _frame(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Width, height, width, height."""
    height, width = image.shape[:2]
    return np.array([width, height, width, height], np.float64)


class _Window(BaseCrop):
    """Crop a random window whose shape lies between the picture's own and the network input's."""

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
        """Rows of fractions of the picture -> of the window; its parent does this in float32."""
        height, width = params["shape"][:2]
        x1, y1, x2, y2 = crop_coords
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * width - x1) / (x2 - x1)
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * height - y1) / (y2 - y1)
        return moved


def _blur(probability: float) -> Any:
    kinds = [
        A.MotionBlur(blur_limit=_BLUR_KERNEL_PX, p=1.0),
        A.GaussianBlur(blur_limit=0, sigma_limit=_GAUSSIAN_SIGMA_PX, p=1.0),
    ]
    return A.OneOf(kinds, p=probability)
