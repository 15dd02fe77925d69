"""`preview.html`: what the augmentation does to one's own images, in one file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.sample import Sample, at_most
from data.augmentation.settings import BASICS, EFFECTS, AugmentSettings
from data.dataset import Dataset
from data.errors import DataError

AMOUNTS = (0.25, 0.6, 1.0)
"""How strong each field effect is shown."""

_JPEG_QUALITY = 82
_LINE_PX = 2
_EXAMPLES = 4  # images that the rows of effects take turns with
# Okabe and Ito's palette, told apart by every kind of colour vision; RGB.
_COLOURS = ("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#009E73")
_NOTHING = dict.fromkeys((*BASICS, *EFFECTS), 0.0)
_SHOWN = {
    "mosaic": ("Mosaic", "four images in one"),
    "copy_paste": ("Copied plants", "cut out along their outline, set down where nothing stands"),
    "mixup": ("Mixup", "another image showing through"),
    "camera_height": ("Camera height", "lower or higher than the one that took the photos"),
    "camera_pitch": ("Camera pitch", "tilted forwards or backwards"),
    "rolling_shutter": ("Rolling shutter", "rows read one after another while driving"),
    "wet_soil": ("Wet soil", "after rain"),
    "daylight": ("Daylight", "the warm hour, or blue shade"),
    "low_sun": ("Low sun", "warm light, long cool shadows"),
    "hard_shadow": ("Hard shadow", "of the machine, or of leaves above"),
    "haze": ("Haze", "mist before the lens"),
    "dust": ("Dust", "dry earth whirled up"),
    "rain": ("Rain", "falling drops, grey light"),
    "sun_flare": ("Sun flare", "the sun shines into the lens"),
    "lens_dust": ("Dust on the lens", "and a splash of mud"),
    "defocus": ("Defocus", "the ground is not where the lens is set"),
    "motion_blur": ("Motion blur", "speed x exposure / gsd, along the heading"),
    "exposure": ("Exposure", "too short or too long"),
    "white_balance": ("White balance", "drifted"),
    "noise": ("Sensor noise", "as at dusk"),
    "jpeg": ("JPEG", "strongly compressed"),
    "video": ("Video", "starved of bits"),
    "multi_scale": ("Multi-scale", "smaller in the network's input"),
}
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
    settings: Mapping[str, Any],
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
        settings: the fields of `AugmentSettings`.
        fit: as `training_batches` takes it.
        images: augmented images, and inputs of the network, to show.
        seed: another one shows others.
        progress: called with (done, total) after each row.

    Raises:
        DataError: the dataset is empty, or an image cannot be read.
        ValueError: a setting out of its range.

    """
    import jinja2  # the page's own needs; reading a dataset has none of them

    from data.augmentation.augment import Augment
    from data.loading.cache import CacheOptions
    from data.loading.loader import LoadingOptions, training_batches
    from data.loading.sampling import SamplingOptions

    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to show")
    chosen = AugmentSettings(**settings)
    order = np.random.default_rng(seed).permutation(len(dataset))
    with_boxes = [int(i) for i in order if (~dataset.images[i].iscrowd).any()] or [int(i) for i in order]
    examples = [_labelled(dataset, i) for i in with_boxes[:_EXAMPLES]]
    total = len(EFFECTS) + 2

    def other(rng: np.random.Generator) -> Sample:
        return _labelled(dataset, int(rng.integers(len(dataset))))

    def varied(sample: Sample, number: int, **changes: Any) -> Sample:
        augment = Augment(size_hw=size_hw, **{**settings, **changes})
        return Sample(*augment(*sample, seed=number, other=other))

    rows: list[dict[str, Any]] = []
    for done, (effect, (title, words)) in enumerate(_SHOWN.items()):
        sample = examples[done % len(examples)]
        shown = [("the photo", at_most(sample, size_hw))]
        for amount in AMOUNTS:
            changes = {**_NOTHING, effect: 1.0, "amount": (amount, amount)}
            shown.append((f"{amount:g}", varied(sample, seed + done, **changes)))
        rows.append(_row(effect, title, words, getattr(chosen, effect), shown))
        if progress:
            progress(done + 1, total)
    for title, (words, keys) in _BASIC_ROWS.items():
        asked = {key: getattr(chosen, key) for key in keys}
        changes = _NOTHING | {key: 1.0 if key in _DRAWN and value else value for key, value in asked.items()}
        sample = examples[0]
        shown = [("the photo", at_most(sample, size_hw))]
        shown += [(f"draw {k}", at_most(varied(sample, seed + k, **changes), size_hw)) for k in (1, 2, 3)]
        said = ", ".join(f"{key} {value:g}" for key, value in asked.items())
        rows.append(_row(said, title, words, max(asked.values()), shown))
    as_it_stands = []
    for number in range(images):
        index = int(order[number % len(order)])
        done_sample = at_most(varied(_labelled(dataset, index), seed + 1000 + number), size_hw)
        as_it_stands.append(_figure(dataset.images[index].path.name, done_sample))
    if progress:
        progress(total - 1, total)
    batches = training_batches(
        dataset,
        SamplingOptions(batch_size=images, seed=seed, steps=1),
        fit=fit,
        augment=Augment(size_hw=size_hw, **settings),
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
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template("preview.html.j2").render(
        name=name,
        dataset=dataset,
        made=datetime.now().strftime("%Y-%m-%d %H:%M"),
        size_hw=size_hw,
        settings={key: value for key, value in vars(chosen).items() if key not in _NOTHING},
        on=[(key, getattr(chosen, key)) for key in _NOTHING if getattr(chosen, key)],
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
