"""`Effect`: one way in which training images are varied. Whatever lists effects derives from these descriptions."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from data.augmentation.sample import Sample, at_most

Group = Literal["mix", "geometry", "photometric", "framing"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""In the order in which they are applied; see `Effect.group`."""

OtherSample = Callable[[np.random.Generator], tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]]
"""Another image of the dataset with its boxes and labels, chosen by the generator it is given."""

Recolour = Callable[[NDArray[np.uint8], float, np.random.Generator], NDArray[np.uint8]]
"""(image uint8 (H, W, 3) BGR, amount 0 to 1, generator) -> an image of the same size."""


class EffectSettings(BaseModel):
    """The recipe keys that one effect brings along, under `augment`; this base has none.

    Two effects may share a key by inheriting it from one class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SettingsT = TypeVar("SettingsT", bound=EffectSettings)


@dataclass(frozen=True)
class Draw(Generic[SettingsT]):
    """What an effect works with on one image.

    Attributes:
        rng: the effect's own stream for this image, and its only source of chance.
        amount: strength, 0 (hardly visible) to 1 (the strongest that leaves every plant visible).
        settings: the effect's own recipe keys.
        on_ground: the camera looks straight down (`view: top_down`), so the image may be turned any way.
        min_visibility: boxes with less than this fraction of their area left in the frame are dropped.
        photo_px: pixels of the photo, along a side, that one pixel of the image spans.
        seed: of the image.
        amounts: the range that `amount` comes from.
        others: other images of the dataset, `Effect.others` of them, at most at the input's scale.

    """

    rng: np.random.Generator
    amount: float
    settings: SettingsT
    on_ground: bool
    min_visibility: float
    photo_px: float
    seed: int
    amounts: tuple[float, float]
    others: tuple[Sample, ...] = ()

    def shared_amount(self, name: str) -> float:
        """An amount shared by all effects of one image that use the same name, such as the driving speed."""
        return float(stream(self.seed, name).uniform(*self.amounts))


@dataclass(frozen=True)
class Effect(Generic[SettingsT]):
    """One effect. To add one, write it in a file of `effects` and add a line to `KINDS` there.

    Attributes:
        name: its key in a recipe's `augment` section, which holds its probability. It also seeds the effect's random
            stream: effects that are added, moved or removed leave the draws of all others as they are.
        group: `mix` puts several images into one; `geometry` moves boxes along; `photometric` changes pixels only;
            `framing` comes last, after flips, turns and colours. Groups are applied in this order, and effects of a
            group in the order of `KINDS`.
        apply: from a sample, its boxes float64, to a new one; the argument is left as it is. Boxes may reach out of
            the image after `geometry`: they are clipped by `cut_to_frame`.
        title: a heading.
        caption: what it does, in a few words below the heading.
        description: what the key is the probability of.
        settings: the recipe keys that it brings along.
        others: how many other images it needs.
        replaces_crop: it crops by itself, so the crop of `scale_crop` is left out.

    """

    name: str
    group: Group
    apply: Callable[[Sample, Draw[SettingsT]], Sample]
    title: str
    caption: str
    description: str
    settings: type[SettingsT] = EffectSettings  # type: ignore[assignment]
    others: int = 0
    replaces_crop: bool = False

    def other_samples(
        self, rng: np.random.Generator, other: OtherSample | None, size_hw: tuple[int, int]
    ) -> tuple[Sample, ...]:
        """The other images that the effect needs, shrunk to the input's scale.

        Raises:
            ValueError: it needs some, and `other` is None.

        """
        if self.others and other is None:
            raise ValueError(f"{self.name} needs other images: give `other`")
        return tuple(at_most(Sample(*other(rng)), size_hw) for _ in range(self.others)) if other else ()


def photometric(
    name: str, recolour: Recolour, *, title: str, caption: str, description: str
) -> Effect[EffectSettings]:
    """An effect that changes pixels only and needs no settings; boxes stay bit-equal.

    Example:
        >>> FOG = photometric("fog", fog, title="Fog", caption="grey and even", description="fog")

    """
    return Effect(name, "photometric", partial(_recoloured, recolour), title, caption, description)


def stream(seed: int, name: str) -> np.random.Generator:
    """The random stream of one name for one image: the same in every process and on every machine."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _recoloured(recolour: Recolour, sample: Sample, draw: Draw[Any]) -> Sample:
    return sample._replace(image_bgr=recolour(sample.image_bgr, draw.amount, draw.rng))
