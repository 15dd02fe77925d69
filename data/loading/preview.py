"""`preview.html`: what the augmentation does to the user's own images, in one self-contained file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import Effect
from data.augmentation.effects import KINDS
from data.augmentation.sample import Sample, at_most
from data.augmentation.settings import BASICS, AugmentSettings
from data.dataset import Dataset
from data.errors import DataError
from data.loading.cache import CacheOptions
from data.loading.samples import FitToInput
from data.loading.sampling import SamplingOptions
from data.palette import CLASS_COLOURS_HEX

AMOUNTS = (0.25, 0.6, 1.0)
"""How strong each field effect is shown."""

_JPEG_QUALITY = 82
_LINE_PX = 2
_EXAMPLES = 4  # images that the rows of effects take turns with
_BASIC_ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Flips and turns": (
        "eight ways to lay an image, or an oblique view's two",
        ("hflip", "vflip", "rotate90"),
    ),
    "Crop": ("a window, which the letterbox then enlarges", ("scale_crop",)),
    "Brightness and contrast": ("either way", ("brightness", "contrast")),
    "Colour": ("hue and saturation", ("hue", "saturation")),
    "Blur": ("up to 7 pixels", ("blur",)),
}
_SHOWN_ALWAYS = (
    "scale_crop",
    "blur",
)  # probabilities that are shown as 1; the other basic keys are shown as they are


def html_preview(
    dataset: Dataset,
    settings: AugmentSettings,
    *,
    name: str,
    size_hw: tuple[int, int],
    fit: FitToInput,
    images: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """The page as HTML text: every effect alone, the whole recipe, and the network's input.

    Args:
        dataset: whose images are shown.
        settings: of the recipe.
        name: of the recipe, for the heading.
        size_hw: the network's input.
        fit: as `training_batches` takes it.
        images: augmented images, and inputs of the network, to show.
        seed: of the images shown and their augmentation.
        progress: called with (done, total) after each effect.

    Raises:
        DataError: the dataset is empty, or an image cannot be read.

    """
    import jinja2  # for the page only; reading a dataset does not need it

    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to show")
    preview = _Preview(dataset, settings, size_hw, seed)
    total = len(KINDS) + 2
    rows = []
    for number, kind in enumerate(KINDS):
        rows.append(preview.effect(number, kind))
        if progress:
            progress(number + 1, total)
    rows += [preview.basics(title, words, keys) for title, (words, keys) in _BASIC_ROWS.items()]
    whole = preview.whole_recipe(images)
    if progress:
        progress(total - 1, total)
    inputs = preview.network_inputs(images, fit)
    if progress:
        progress(total, total)
    probabilities = (*BASICS, *(kind.name for kind in KINDS))
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template("preview.html.j2").render(
        name=name,
        dataset=dataset,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        size_hw=size_hw,
        settings={key: value for key, value in settings.model_dump().items() if key not in probabilities},
        on=[(key, getattr(settings, key)) for key in probabilities if getattr(settings, key)],
        classes=[(c, CLASS_COLOURS_HEX[k % len(CLASS_COLOURS_HEX)]) for k, c in enumerate(dataset.class_names)],
        rows=rows,
        whole=whole,
        inputs=inputs,
        seed=seed,
    )


@dataclass(frozen=True)
class _Preview:
    """The figures of one page."""

    dataset: Dataset
    settings: AugmentSettings
    size_hw: tuple[int, int]
    seed: int

    @cached_property
    def order(self) -> list[int]:
        """The dataset's images, shuffled."""
        return [int(i) for i in np.random.default_rng(self.seed).permutation(len(self.dataset))]

    @cached_property
    def examples(self) -> list[Sample]:
        """The images that the rows of effects take turns with: if possible with boxes."""
        with_boxes = [i for i in self.order if (~self.dataset.images[i].iscrowd).any()] or self.order
        return [_labelled(self.dataset, i) for i in with_boxes[:_EXAMPLES]]

    def effect(self, number: int, kind: Effect[Any]) -> dict[str, Any]:
        """The row of one effect: the photo, then the effect alone at three amounts."""
        sample = self.examples[number % len(self.examples)]
        shown = [("the photo", at_most(sample, self.size_hw))]
        for amount in AMOUNTS:
            alone = self.settings.only(**{kind.name: 1.0}, amount=(amount, amount))
            shown.append((f"{amount:g}", self._augmented(sample, self.seed + number, alone)))
        return _row(kind.name, kind.title, kind.caption, self.settings.probability(kind), shown)

    def basics(self, title: str, words: str, keys: tuple[str, ...]) -> dict[str, Any]:
        """The row of some basic keys: the photo, then three draws of these keys alone."""
        values = {key: getattr(self.settings, key) for key in keys}
        alone = self.settings.only(
            **{k: 1.0 if k in _SHOWN_ALWAYS and value else value for k, value in values.items()}
        )
        shown = [("the photo", at_most(self.examples[0], self.size_hw))]
        for number in (1, 2, 3):
            sample = self._augmented(self.examples[0], self.seed + number, alone)
            shown.append((f"draw {number}", at_most(sample, self.size_hw)))
        return _row(", ".join(f"{k} {v:g}" for k, v in values.items()), title, words, max(values.values()), shown)

    def whole_recipe(self, images: int) -> list[dict[str, Any]]:
        """Figures of images augmented by the whole recipe."""
        figures = []
        for number in range(images):
            index = self.order[number % len(self.order)]
            sample = self._augmented(_labelled(self.dataset, index), self.seed + 1000 + number, self.settings)
            figures.append(_figure(self.dataset.images[index].path.name, at_most(sample, self.size_hw)))
        return figures

    def network_inputs(self, images: int, fit: FitToInput) -> list[dict[str, Any]]:
        """Figures of the first training batch."""
        from data.augmentation.augment import Augment
        from data.loading.loader import LoadingOptions, training_batches

        batches = training_batches(
            self.dataset,
            SamplingOptions(batch_size=images, seed=self.seed, steps=1),
            fit=fit,
            augment=Augment(self.settings, size_hw=self.size_hw),
            loading=LoadingOptions(cache=CacheOptions("none")),
        )
        figures = []
        for batch in batches:
            for pixels, target, index in zip(batch.images, batch.targets, batch.indices, strict=True):
                image_bgr = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[..., ::-1])
                seen = Sample(image_bgr, target["boxes"].numpy(), target["labels"].numpy())
                figures.append(_figure(self.dataset.images[index].path.name, seen))
        return figures

    def _augmented(self, sample: Sample, seed: int, settings: AugmentSettings) -> Sample:
        from data.augmentation.augment import Augment  # imports albumentations: seconds

        return Sample(*Augment(settings, size_hw=self.size_hw)(*sample, seed=seed, other=self._other))

    def _other(self, rng: np.random.Generator) -> Sample:
        return _labelled(self.dataset, int(rng.integers(len(self.dataset))))


def _row(key: str, title: str, words: str, probability: float, shown: list[tuple[str, Sample]]) -> dict[str, Any]:
    figures = [_figure(caption, sample) for caption, sample in shown]
    return {"key": key, "title": title, "words": words, "probability": probability, "figures": figures}


def _labelled(dataset: Dataset, index: int) -> Sample:
    image = dataset.images[index]
    wanted = ~image.iscrowd
    return Sample(image.read(), image.boxes_xyxy[wanted], image.labels[wanted])


def _figure(caption: str, sample: Sample) -> dict[str, Any]:
    image = sample.image_bgr.copy()
    for box, label in _largest_first(sample):
        x1, y1, x2, y2 = (round(float(v)) for v in box)
        colour = CLASS_COLOURS_HEX[label % len(CLASS_COLOURS_HEX)]
        bgr = tuple(int(colour[k : k + 2], 16) for k in (5, 3, 1))
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), (20, 20, 20), _LINE_PX + 1)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), bgr, _LINE_PX)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return {
        "caption": caption,
        "boxes": len(sample.labels),
        "jpeg": base64.b64encode(encoded.tobytes()).decode(),
    }


def _largest_first(sample: Sample) -> Iterator[tuple[NDArray[np.floating], int]]:
    """Boxes by area, largest first, so that small ones are drawn on top."""
    sides = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
    for index in np.argsort(-np.prod(sides, axis=1), kind="stable"):
        yield sample.boxes_xyxy[index], int(sample.labels[index])
