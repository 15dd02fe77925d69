"""`Augment`: varies an image together with its boxes, reproducibly from a seed."""

from __future__ import annotations

import math
import random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.basics import basic_recipe, crop_recipe
from data.augmentation.effect import GROUPS, Draw, Effect, EffectSettings, Group, OtherSample, stream
from data.augmentation.effects import KINDS
from data.augmentation.sample import Sample, at_most, cut_to_frame
from data.augmentation.settings import AugmentSettings

_SLIVER_PX = 4

_Chosen = tuple[Effect[Any], EffectSettings, np.random.Generator]
"""An effect that is applied to an image, its own settings, and its random stream for that image."""


class Augment:
    """Vary an image together with its boxes; the same for the same seed.

    In this order: mixes with other images (or the crop); camera position and driving; light, weather, lens, sensor
    and file format; flips and turns; brightness, colour and blur; last the framing. A driving direction is therefore
    turned along with the image. Each effect draws from a random stream of its own, seeded by its name.

    The crop cuts a window out of the image and does not resize it: fitting to the network's input is left to the
    letterbox, so that training sees the pixels that the robot will see. An image that any effect is applied to is
    first shrunk to the scale that the letterbox would give it: effects then cost the same for every photo, and are
    not averaged away.

    Example:
        >>> augment = Augment(AugmentSettings(strength="field"), size_hw=(512, 512))
        >>> image, boxes, labels = augment(image, boxes, labels, seed=1, other=other)

    Args:
        settings: which variations, how often and how strong.
        size_hw: the network's input; a crop's shape lies between the image's and this one's.

    Raises:
        ValueError: `size_hw` is not positive.

    """

    def __init__(self, settings: AugmentSettings, *, size_hw: tuple[int, int]) -> None:
        if min(size_hw) < 1:
            raise ValueError(f"size_hw must be positive, got {size_hw}")
        self.settings, self.size_hw = settings, size_hw
        by_group = sorted(KINDS, key=lambda kind: GROUPS.index(kind.group))
        self._effects = [(kind, settings.of(kind)) for kind in by_group if settings.probability(kind) > 0]
        self._crop = crop_recipe(settings, size_hw)
        self._basics = basic_recipe(settings)

    def scale_range(self, image_hw: tuple[int, int]) -> tuple[float, float]:
        """The fewest and the most input pixels that a pixel of the image can become, over all draws.

        The loader decides by it how much of an image's resolution to decode. It holds for a fit that
        scales both sides by the same factor until the crop just fits into the input, up to rounding to pixels.

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
            # the image in that shape, the crop shrinks it until it does.
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
        other: OtherSample | None = None,
        photo_px: float = 1.0,
        mixed: bool = True,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """Augment one image; the arguments are left as they are.

        Args:
            image_bgr: uint8 (H, W, 3), BGR.
            boxes_xyxy: float32 (N, 4), absolute pixels, inside the image, N may be 0.
            labels: int64 (N,).
            seed: 0 or more; the same seed does the same to the same image.
            other: gives other images; needed where an effect that mixes images has a probability above 0.
            photo_px: how many pixels of the photo one pixel of the image spans, where it was decoded
                smaller; settings in pixels of the photo, such as `gsd_mm`, are scaled by it.
            mixed: whether effects that mix images may be applied; without them nothing else changes.

        Returns:
            The image uint8 (H', W', 3) BGR, its boxes float32 (M, 4) in pixels of that image, and
            their labels int64 (M,).

        Raises:
            ValueError: an effect needs other images, and `other` is None.

        """
        sample = Sample(image_bgr, np.asarray(boxes_xyxy, np.float64).reshape(-1, 4), np.asarray(labels, np.int64))
        chosen = self._chosen(seed, mixed)
        # One generator for all basic steps: `Compose.set_random_seed` would give each step the same one, and
        # then flips and turns, drawing equal numbers, would always occur together or not at all.
        streams = np.random.default_rng(seed), random.Random(seed)
        for recipe in (self._crop, self._basics):
            recipe.set_random_state(*streams)
        if not any(kind.replaces_crop for kind, _, _ in chosen):
            sample = _through(self._crop, sample)
        if chosen:
            width = sample.image_bgr.shape[1]
            sample = at_most(sample, self.size_hw)
            photo_px *= width / sample.image_bgr.shape[1]
            for group in ("mix", "geometry", "photometric"):
                sample = self._applied(group, chosen, sample, seed, photo_px, other)
        # A sliver shows no plant, and OpenCV takes a channel of 4 x 1 pixels for a constant.
        sample = sample if min(sample.image_bgr.shape[:2]) < _SLIVER_PX else self._basic(sample)
        sample = self._applied("framing", chosen, sample, seed, photo_px, other)
        return sample.image_bgr, sample.boxes_xyxy.astype(np.float32), sample.labels

    def _chosen(self, seed: int, mixed: bool) -> list[_Chosen]:
        """The effects to apply to an image, in order."""
        chosen: list[_Chosen] = []
        for kind, settings in self._effects:
            rng = stream(seed, kind.name)
            if rng.random() < self.settings.probability(kind) and (mixed or kind.group != "mix"):
                chosen.append((kind, settings, rng))
        return chosen

    def _applied(
        self,
        group: Group,
        chosen: list[_Chosen],
        sample: Sample,
        seed: int,
        photo_px: float,
        other: OtherSample | None,
    ) -> Sample:
        """The sample after the chosen effects of one group."""
        of_group = [entry for entry in chosen if entry[0].group == group]
        s = self.settings
        for kind, settings, rng in of_group:
            amount = float(rng.uniform(*s.amount))
            if group == "photometric":
                # Several at once are each weaker, so that plants stay visible under all of them.
                amount /= math.sqrt(len(of_group))
            draw = Draw(
                rng=rng,
                amount=amount,
                settings=settings,
                on_ground=s.view == "top_down",
                min_visibility=s.min_visibility,
                photo_px=photo_px,
                seed=seed,
                amounts=s.amount,
                others=kind.other_samples(rng, other, self.size_hw),
            )
            done = kind.apply(sample._replace(boxes_xyxy=np.asarray(sample.boxes_xyxy, np.float64)), draw)
            sample = cut_to_frame(done, s.min_visibility) if group == "geometry" else done
        return sample

    def _basic(self, sample: Sample) -> Sample:
        """Flips, turns, colours and blur."""
        rgb = sample._replace(image_bgr=np.asarray(cv2.cvtColor(sample.image_bgr, cv2.COLOR_BGR2RGB), np.uint8))
        # `force_apply` on a whole recipe only skips the recipe's own draw, which the crop has made already.
        image, boxes, labels = _through(self._basics, rgb, force_apply=True)
        return Sample(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8), boxes, labels)


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
