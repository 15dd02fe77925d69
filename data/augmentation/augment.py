"""The augmentation recipe: which effects, in which order, from which seed. Albumentations stays behind this door."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effects.camera import lens_dust, noise, pose, smaller
from data.augmentation.effects.light import exposure, hard_shadow, low_sun, sun_flare, white_balance
from data.augmentation.effects.motion import ground_moves_xy, motion_blur, rolling_shutter, travel_px
from data.augmentation.effects.weather import dust, haze, rain, wet_soil
from data.augmentation.mix import copy_paste, mixup, mosaic
from data.augmentation.sample import Sample, at_most, cut_to_frame
from data.augmentation.settings import EFFECTS, GEOMETRY, LOOKS, MIXES, AugmentSettings
from data.augmentation.stock import basic_recipe, daylight, defocus, jpeg, video, window_recipe

Other = Callable[[np.random.Generator], tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]
"""Draws another image of the dataset, with its boxes and labels, by the generator it is given."""

_Look = Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]
_LOOKS: dict[str, _Look] = {
    "wet_soil": wet_soil,
    "daylight": daylight,
    "haze": haze,
    "dust": dust,
    "rain": rain,
    "lens_dust": lens_dust,
    "defocus": defocus,
    "exposure": exposure,
    "white_balance": white_balance,
    "noise": noise,
    "jpeg": jpeg,
    "video": video,
}
_CHOICE = 1  # which effects come; effect number k draws from stream 2 + k, the basic steps from the seed itself
_SLIVER_PX = 4
_LARGEST_WOBBLE_PX, _WOBBLE_CYCLES = 2.5, (1.5, 5.0)


class Augment:
    """Vary an image together with its boxes; the same for the same seed.

    In this order: mixes with other images (or the crop); where the camera stands and how it drives;
    light, weather, glass, sensor and file; flips and turns; brightness, colour and blur; last the
    smaller image of `multi_scale`. So driving directions turn along with the image.

    The crop takes a window out of the image and does not resize it: fitting to the network's input
    stays the letterbox's business, so that training sees the pixels that the robot will see. An image
    that any field effect falls on is first shrunk to the scale that the letterbox would give it: effects
    then cost the same for every photo, and what they do is not averaged away.

    Args:
        size_hw: the network's input; a crop's shape lies between the image's and this one's.
        settings: the fields of `AugmentSettings`.

    Raises:
        ValueError: a number out of its range.
        TypeError: no such setting.

    """

    def __init__(self, *, size_hw: tuple[int, int], **settings: Any) -> None:
        if min(size_hw) < 1:
            raise ValueError(f"size_hw must be positive, got {size_hw}")
        self.size_hw = size_hw
        self.settings = AugmentSettings(**settings)
        s = self.settings
        on_ground = s.view == "top_down"
        self._looks: dict[str, _Look] = {
            **_LOOKS,
            "low_sun": partial(low_sun, on_ground=on_ground),
            "hard_shadow": partial(hard_shadow, on_ground=on_ground),
            "sun_flare": partial(sun_flare, on_ground=on_ground),
        }
        self._window = window_recipe(size_hw, s.crop_scale, s.scale_crop, s.min_visibility)
        self._basics = basic_recipe(
            hflip=s.hflip,
            vflip=s.vflip,
            rotate90=s.rotate90,
            brightness=s.brightness,
            contrast=s.contrast,
            hue=s.hue,
            saturation=s.saturation,
            blur=s.blur,
            min_visibility=s.min_visibility,
        )

    def scale_range(self, image_hw: tuple[int, int]) -> tuple[float, float]:
        """The fewest and the most input pixels that a pixel of the image can become, whatever is drawn.

        The loader decides by it how much of an image's resolution to decode. It holds for a fit that
        scales both sides alike until the crop just fits into the input, up to whole pixels.

        Args:
            image_hw: height and width of the image in pixels.

        """
        (height, width), (input_h, input_w) = image_hw, self.size_hw
        s = self.settings
        smallest = largest = min(input_h / height, input_w / width)
        if s.rotate90 > 0:
            turned = min(input_h / width, input_w / height)
            smallest, largest = min(smallest, turned), max(largest, turned)
        if s.scale_crop > 0:
            # A window of the input's own shape is enlarged most; where the drawn area does not fit into
            # the image in that shape, `_Window` shrinks it until it does.
            widest_w = min(width, height * input_w / input_h)
            fitting_px = widest_w * (widest_w * input_h / input_w)
            least_px = min(s.crop_scale[0] * height * width, fitting_px)
            largest = max(largest, math.sqrt(input_h * input_w / least_px))
        return smallest, largest

    def __call__(
        self,
        image_bgr: NDArray[np.uint8],
        boxes_xyxy: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        seed: int,
        other: Other | None = None,
        photo_px: float = 1.0,
        mixed: bool = True,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Augment one image; the arguments are left as they are.

        Args:
            image_bgr: uint8 (H, W, 3), BGR.
            boxes_xyxy: float32 (N, 4), absolute pixels, inside the image, N may be 0.
            labels: int64 (N,).
            seed: 0 or more; the same seed does the same to the same image.
            other: draws other images; needed where `mosaic`, `copy_paste` or `mixup` are above 0.
            photo_px: how many pixels of the photo one pixel of the image spans, where it was decoded
                smaller; `gsd_mm` counts the photo's.
            mixed: whether `mosaic`, `copy_paste` and `mixup` may come; nothing else changes without them.

        Returns:
            The image uint8 (H', W', 3) BGR, its boxes float32 (M, 4) in pixels of that image, and
            their labels int64 (M,).

        Raises:
            ValueError: a mix is asked for without `other`.

        """
        sample = Sample(image_bgr, np.asarray(boxes_xyxy, np.float64).reshape(-1, 4), np.asarray(labels, np.int64))
        choice = np.random.default_rng([seed, _CHOICE])
        # Every effect draws, wanted or not: switching one on changes no other.
        on = {name for name, draw in zip(EFFECTS, choice.random(len(EFFECTS)), strict=True)
              if draw < getattr(self.settings, name) and (mixed or name not in MIXES)}  # fmt: skip
        # One generator for all basic steps: `Compose.set_random_seed` would give each step the same one, and
        # then flips and turns, drawing equal numbers, always come together or not at all.
        streams = np.random.default_rng(seed), random.Random(seed)
        for recipe in (self._window, self._basics):
            recipe.set_random_state(*streams)
        if "mosaic" not in on:
            sample = _through(self._window, sample)
        if on:
            sample = self._in_the_field(sample, on, seed, other, self.settings.gsd_mm * photo_px)
        # A sliver shows no plant, and OpenCV takes a channel of 4 x 1 pixels for a constant.
        done = sample if min(sample.image_bgr.shape[:2]) < _SLIVER_PX else self._varied(sample)
        if "multi_scale" in on:
            rng, amount = self._drawn("multi_scale", seed)
            scale, (x, y) = self.settings.smallest_scale**amount, rng.random(2)
            boxes = np.asarray(done.boxes_xyxy, np.float64)
            lying = smaller(done.image_bgr, boxes, scale=scale, at_xy=(float(x), float(y)))
            done = Sample(*lying, done.labels)
        return done.image_bgr, done.boxes_xyxy.astype(np.float32), done.labels

    def _varied(self, sample: Sample) -> Sample:
        rgb = sample._replace(image_bgr=np.asarray(cv2.cvtColor(sample.image_bgr, cv2.COLOR_BGR2RGB), np.uint8))
        # Forced, which for a whole recipe only means: without a draw of its own. The window has made it.
        image, boxes, labels = _through(self._basics, rgb, force_apply=True)
        return Sample(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8), boxes, labels)

    def _in_the_field(self, sample: Sample, on: set[str], seed: int, other: Other | None, gsd_mm: float) -> Sample:
        width = sample.image_bgr.shape[1]
        sample = at_most(sample, self.size_hw)
        gsd_mm *= width / sample.image_bgr.shape[1]
        for name in MIXES:
            if name in on:
                sample = self._mixed(name, sample, seed, other)
        for name in GEOMETRY:
            if name in on:
                image, boxes = self._seen(name, sample, seed, gsd_mm)
                sample = cut_to_frame(Sample(image, boxes, sample.labels), self.settings.min_visibility)
        looks = [name for name in LOOKS if name in on]
        for name in looks:
            rng, amount = self._drawn(name, seed)
            # What comes together comes weaker, so that plants stay visible under all of it.
            amount /= math.sqrt(len(looks))
            if name == "motion_blur":
                exposure_ms = _between(self.settings.exposure_ms, amount)
                image = motion_blur(sample.image_bgr, self._shift_xy(seed, exposure_ms, gsd_mm))
            else:
                image = self._looks[name](sample.image_bgr, amount, rng)
            sample = sample._replace(image_bgr=image)
        return sample

    def _mixed(self, name: str, sample: Sample, seed: int, other: Other | None) -> Sample:
        if other is None:
            raise ValueError(f"{name} needs other images: give `other`")
        rng, amount = self._drawn(name, seed)
        count = 3 if name == "mosaic" else 1
        more = [at_most(Sample(*other(rng)), self.size_hw) for _ in range(count)]
        if name == "copy_paste":
            any_turn = self.settings.view == "top_down"
            return copy_paste(sample, more[0], rng, most=1 + round(4 * amount), any_turn=any_turn)
        visible = self.settings.min_visibility
        if name == "mixup":
            return mixup(sample, more[0], rng, min_visibility=visible)
        rows, columns = sample.image_bgr.shape[:2]
        # An image of one row or column cannot be cut in four.
        return mosaic([sample, *more], (max(2, rows), max(2, columns)), rng, min_visibility=visible)

    def _seen(
        self, name: str, sample: Sample, seed: int, gsd_mm: float
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        rng, amount = self._drawn(name, seed)
        s = self.settings
        image, boxes = sample.image_bgr, np.asarray(sample.boxes_xyxy, np.float64)
        if name == "camera_height":
            return pose(image, boxes, height=float(rng.choice(s.height_range)) ** amount)
        if name == "camera_pitch":
            return pose(image, boxes, pitch_deg=amount * s.pitch_deg * float(rng.choice((-1, 1))))
        return rolling_shutter(
            image,
            boxes,
            shift_xy=self._shift_xy(seed, s.readout_ms, gsd_mm),
            wobble_px=amount * _LARGEST_WOBBLE_PX * float(rng.random()),
            cycles=float(rng.uniform(*_WOBBLE_CYCLES)),
            phase=float(rng.uniform(0, 2 * math.pi)),
        )

    def _drawn(self, name: str, seed: int) -> tuple[np.random.Generator, float]:
        """The generator of one effect for one image, and how strong it comes."""
        rng = np.random.default_rng([seed, _CHOICE + 1 + EFFECTS.index(name)])
        return rng, float(rng.uniform(*self.settings.amount))

    def _shift_xy(self, seed: int, time_ms: float, gsd_mm: float) -> tuple[float, float]:
        """How far the ground moves through the image in `time_ms`; one speed for blur and shutter."""
        _, pace = self._drawn("rolling_shutter", seed)
        length = travel_px(_between(self.settings.speed_kmh, pace), time_ms, gsd_mm)
        x, y = ground_moves_xy(self.settings.heading_deg)
        return length * x, length * y


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _through(recipe: Any, sample: Sample, **options: Any) -> Sample:
    """One of albumentations' recipes on a sample."""
    image, boxes, labels = sample
    # Fractions in float64, made here: albumentations' own conversion from pixels goes through float32.
    rows = np.column_stack([boxes / _frame(image), np.arange(len(boxes), dtype=np.float64)])
    done = recipe(image=image, bboxes=rows, **options)
    left = np.asarray(done["bboxes"], np.float64)
    if not left.size:  # albumentations forgets the columns of an empty result
        left = left.reshape(0, 5)
    image = np.asarray(done["image"], np.uint8)
    return Sample(image, np.clip(left[:, :4], 0, 1) * _frame(image), labels[left[:, 4].astype(np.int64)])


def _frame(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Width, height, width, height."""
    height, width = image.shape[:2]
    return np.array([width, height, width, height], np.float64)
