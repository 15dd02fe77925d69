"""`preview.html`: what the augmentation does to one's own images, in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effects import KINDS
from data.augmentation.sample import Sample, at_most
from data.augmentation.settings import BASICS, AugmentSettings
from data.dataset import Dataset
from data.errors import DataError

AMOUNTS = (0.25, 0.6, 1.0)
"""How strong each field effect is shown."""

_JPEG_QUALITY = 82
_LINE_PX = 2
_EXAMPLES = 4  # images that the rows of effects take turns with
# Okabe and Ito's palette, told apart by every kind of colour vision; RGB.
_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#009E73")
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
_DRAWN = ("scale_crop", "blur")  # probabilities that are shown as 1; the other basic keys are shown as they are


def html_preview(
    dataset: Dataset,
    *,
    name: str,
    size_hw: tuple[int, int],
    settings: AugmentSettings,
    fit: Callable[[NDArray[np.uint8], NDArray[np.float32]], tuple[NDArray[np.uint8], NDArray[np.float32]]],
    images: int = 12,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """The page as text: every effect alone, the recipe as it stands, and what the network sees.

    Args:
        dataset: whose images are shown.
        name: of the recipe, for the heading.
        size_hw: the network's input.
        settings: of the recipe.
        fit: as `training_batches` takes it.
        images: augmented images, and inputs of the network, to show.
        seed: another one shows others.
        progress: called with (done, total) after each row.

    Raises:
        DataError: the dataset is empty, or an image cannot be read.

    """
    import jinja2  # the page's own needs; reading a dataset has none of them

    from data.augmentation.augment import Augment
    from data.loading.cache import CacheOptions
    from data.loading.loader import LoadingOptions, training_batches
    from data.loading.sampling import SamplingOptions

    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to show")
    order = np.random.default_rng(seed).permutation(len(dataset))
    with_boxes = [int(i) for i in order if (~dataset.images[i].iscrowd).any()] or [int(i) for i in order]
    examples = [_labelled(dataset, i) for i in with_boxes[:_EXAMPLES]]
    total = len(KINDS) + 2

    def other(rng: np.random.Generator) -> Sample:
        return _labelled(dataset, int(rng.integers(len(dataset))))

    def varied(sample: Sample, number: int, of: AugmentSettings) -> Sample:
        return Sample(*Augment(of, size_hw=size_hw)(*sample, seed=number, other=other))

    rows: list[dict[str, Any]] = []
    for done, kind in enumerate(KINDS):
        sample = examples[done % len(examples)]
        shown = [("the photo", at_most(sample, size_hw))]
        for amount in AMOUNTS:
            alone = settings.only(**{kind.name: 1.0}, amount=(amount, amount))
            shown.append((f"{amount:g}", varied(sample, seed + done, alone)))
        rows.append(_row(kind.name, kind.title, kind.caption, settings.probability(kind), shown))
        if progress:
            progress(done + 1, total)
    for title, (words, keys) in _BASIC_ROWS.items():
        asked = {key: getattr(settings, key) for key in keys}
        alone = settings.only(**{key: 1.0 if key in _DRAWN and value else value for key, value in asked.items()})
        sample = examples[0]
        shown = [("the photo", at_most(sample, size_hw))]
        shown += [(f"draw {k}", at_most(varied(sample, seed + k, alone), size_hw)) for k in (1, 2, 3)]
        said = ", ".join(f"{key} {value:g}" for key, value in asked.items())
        rows.append(_row(said, title, words, max(asked.values()), shown))
    as_it_stands = []
    for number in range(images):
        index = int(order[number % len(order)])
        done_sample = at_most(varied(_labelled(dataset, index), seed + 1000 + number, settings), size_hw)
        as_it_stands.append(_figure(dataset.images[index].path.name, done_sample))
    if progress:
        progress(total - 1, total)
    batches = training_batches(
        dataset,
        SamplingOptions(batch_size=images, seed=seed, steps=1),
        fit=fit,
        augment=Augment(settings, size_hw=size_hw),
        loading=LoadingOptions(cache=CacheOptions("none")),
    )
    inputs = []
    for batch in batches:
        for pixels, target, index in zip(batch.images, batch.targets, batch.indices, strict=True):
            image_bgr = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()[..., ::-1])
            seen = Sample(image_bgr, target["boxes"].numpy(), target["labels"].numpy())
            inputs.append(_figure(dataset.images[index].path.name, seen))
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
        classes=[(c, _COLOURS[k % len(_COLOURS)]) for k, c in enumerate(dataset.class_names)],
        rows=rows,
        as_it_stands=as_it_stands,
        inputs=inputs,
        seed=seed,
    )


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
        colour = _COLOURS[label % len(_COLOURS)]
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
    """So that no small box is drawn over by a large one."""
    sides = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
    for index in np.argsort(-np.prod(sides, axis=1), kind="stable"):
        yield sample.boxes_xyxy[index], int(sample.labels[index])
