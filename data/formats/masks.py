"""Mask folders: `images/` and `masks/`, a PNG of instance numbers for each image, read as boxes.

The rule: a mask is a PNG of one channel (8 or 16 bits, palette or not) of its image's size and path, `.png`
for a suffix. 0 is background, every other value is one instance, whose box spans its pixels. What class an
instance is of is given either

- in a folder for each class: `masks/<class>/<image>.png`; or, with `masks/<image>.png`,
- in `classes.json` beside `masks/`: `["weed"]` where all are of one class, or
  `{"classes": ["crop", "weed"], "instances": {"<image>": {"1": "crop", "2": "weed"}}}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import read_text
from data.formats.classes import class_name
from data.formats.format import Format, ReadOptions
from data.formats.names import pairs
from data.formats.orientation import boxes_as_displayed
from data.formats.references import Roots, count_foreign, images_by_stem
from data.formats.repair import Notices, Unlabelled, count_unlabelled, repair_boxes
from data.images import read_mask

_CLASSES = "classes.json"


def is_mask_folder(folder: Path) -> bool:
    """Whether `folder` holds `images/` and `masks/`."""
    return os.path.isdir(folder / "images") and os.path.isdir(folder / "masks")


def read_masks(
    folder: Path,
    *,
    unlabelled: Unlabelled = "background",
    images_dir: Path | None = None,
    also: Collection[str] = (),
) -> Dataset:
    """Read a folder of images and their instance masks, see above for the rule.

    Areas are counted in pixels of the mask.

    Args:
        folder: holds `images/` and `masks/`.
        unlabelled: what an image without a mask is: "background", or not labelled yet: "skip" it.
        images_dir: the folder of the images, where `images/` holds none; or what its links lead to.
        also: classes that occur in the dataset's other parts.

    Raises:
        DataError: a mask or an image is faulty, an instance has no class, or a file leads out of the dataset
            (see `data.formats.references`).

    """
    own_images, masks = folder / "images", folder / "masks"
    roots = Roots(folder, images_dir=images_dir)
    notices = Notices()
    image_of = images_by_stem(own_images, roots)
    if not image_of and images_dir is not None:
        image_of = images_by_stem(Path(images_dir), roots)
    mask_of = {file.relative_to(masks).with_suffix(""): file for file in roots.images_in(masks)}
    wrong = [file for file in mask_of.values() if file.suffix.lower() != ".png"]
    if wrong:
        raise DataError(f"{wrong[0]}: masks must be PNG: other formats change or cannot hold instance numbers")
    if os.path.lexists(folder / _CLASSES):
        names, class_of = _class_file(folder / _CLASSES)
        homes = [(masks, class_of)]
    else:
        folders = sorted({stem.parts[0] for stem in mask_of if len(stem.parts) > 1})
        names = tuple(sorted({*map(class_name, folders), *also}))
        flat = [file for stem, file in mask_of.items() if len(stem.parts) == 1]
        if flat or not names:
            raise DataError(
                f"{folder}: the class of the masks is unknown ({(flat or [masks])[0]}): put them into a "
                f'folder for each class, or write {_CLASSES} beside masks/, such as ["weed"]'
            )
        homes = [(masks / name, {None: class_name(name)}) for name in folders]
    label_of = {name: label for label, name in enumerate(names)}
    found_in = [(_for_images(image_of, home, mask_of, notices), class_of) for home, class_of in homes]
    used: set[Path] = set()
    images: list[LabelledImage] = []
    without: list[Path] = []
    for image_id, (stem, file) in enumerate(image_of.items(), start=1):
        found = [(masks_of[stem], class_of) for masks_of, class_of in found_in if stem in masks_of]
        if not found:
            without.append(file)
        if found or unlabelled == "background":
            used |= {mask for mask, _ in found}
            images.append(_image(image_id, file, stem, found, label_of, roots, notices))
    orphans = sorted(set(mask_of.values()) - used)
    if orphans:
        rest = "without an image: not used"
        notices.count("mask", "masks", rest, orphans[0].name, len(orphans), kind="label-unused")
    count_foreign(roots, notices)
    count_unlabelled(without, "mask", unlabelled, notices)
    if not images:
        raise DataError(f"{folder}: the dataset is empty: no labelled images in {images}")
    return Dataset(str(folder), names, tuple(range(1, len(names) + 1)), tuple(images), notices.lines())


def _for_images(
    image_of: Mapping[Path, Path], home: Path, mask_of: Mapping[Path, Path], notices: Notices
) -> dict[Path, Path]:
    """Path of an image without suffix -> its mask in `home`."""
    there = {
        file.relative_to(home).with_suffix("").as_posix(): file for file in mask_of.values() if home in file.parents
    }
    stems = {stem.as_posix(): stem for stem in image_of}
    found = pairs(stems, there, str(home))
    for stem, mask in found.items():
        if stem != mask:
            rest = "found under another spelling of its image's name (Unicode form or case)"
            notices.count("mask", "masks", rest, f"{mask}: {image_of[stems[stem]].name}")
    return {stems[stem]: there[mask] for stem, mask in found.items()}


_ClassOf = Mapping[Any, Any]  # {None: class of all}, or image -> {instance: class}


def _image(
    image_id: int,
    file: Path,
    stem: Path,
    masks: Sequence[tuple[Path, _ClassOf]],
    label_of: Mapping[str, int],
    roots: Roots,
    notices: Notices,
) -> LabelledImage:
    roots.check(file, str(file.parent))
    boxes: list[tuple[float, float, float, float]] = []
    areas: list[float] = []
    labels: list[int] = []
    given_hw: tuple[int | None, int | None] = (None, None)
    for mask, class_of in masks:
        roots.check(mask, str(mask.parent))
        instances = read_mask(mask)
        if given_hw not in ((None, None), instances.shape):
            raise DataError(f"{mask}: has another size than the image's other masks")
        given_hw = (instances.shape[0], instances.shape[1])
        values = np.unique(instances)
        if values.tolist() in ([0, 255], [255]):
            rest = "of 0 and 255 only: taken as one instance each; number the instances if there are more"
            notices.count("mask", "masks", rest, mask.name)
        for value, box, area in _boxes(instances):
            name = class_of[None] if None in class_of else class_of.get(stem.as_posix(), {}).get(str(value))
            if name is None:
                raise DataError(f"{mask}: {_CLASSES} names no class for instance {value} of {stem.as_posix()!r}")
            boxes.append(box)
            areas.append(area)
            labels.append(label_of[name])
    stored = np.array(boxes, np.float64).reshape(-1, 4)
    upright, size_hw = boxes_as_displayed(stored, given_hw, file, masks[0][0] if masks else file, notices)
    kept, keep = repair_boxes(upright, size_hw, notices, str(file))
    return LabelledImage(
        image_id,
        file,
        size_hw,
        kept,
        np.array(labels, np.int64)[keep],
        np.array(areas, np.float64)[keep],
        np.zeros(len(kept), np.bool_),
    )


def _boxes(instances: NDArray[np.integer[Any]]) -> list[tuple[int, tuple[float, float, float, float], float]]:
    """Value, box x1, y1, x2, y2 and area in pixels of each instance of (H, W), by value."""
    rows, columns = np.nonzero(instances)
    values, index = np.unique(instances[rows, columns], return_inverse=True)
    if not len(values):
        return []
    low = np.full((len(values), 2), np.iinfo(np.int64).max)
    high = np.full((len(values), 2), -1)
    for axis, along in enumerate((columns, rows)):
        np.minimum.at(low[:, axis], index, along)
        np.maximum.at(high[:, axis], index, along)
    areas = np.bincount(index, minlength=len(values))
    return [
        (int(value), (float(x1), float(y1), float(x2 + 1), float(y2 + 1)), float(area))
        for value, (x1, y1), (x2, y2), area in zip(values, low, high, areas, strict=True)
    ]


def _class_file(path: Path) -> tuple[tuple[str, ...], _ClassOf]:
    try:
        given = json.loads(read_text(path, kind="a list of classes"))
        names = given["classes"] if isinstance(given, dict) else given
        if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
            raise TypeError
        instances = given.get("instances", {}) if isinstance(given, dict) else {}
        used = [name for of in instances.values() for name in of.values()]
        if len(set(names)) != len(names) or any(name not in names for name in used):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f'{path}: must be ["weed"], or {{"classes": [...], "instances": {{"image": {{"1": "weed"}}}}}} with '
            "each class once"
        ) from None
    if not instances and len(names) > 1:
        raise DataError(f"{path}: names {len(names)} classes, but not which instance is of which")
    return tuple(names), instances or {None: names[0]}


def _finds(folder: Path, split: str) -> list[Path]:
    return [folder] if is_mask_folder(folder) else []


def _reads(path: Path, options: ReadOptions) -> Dataset:
    images_dir, also = options.images_dir, options.also
    return read_masks(path, unlabelled=options.unlabelled, images_dir=images_dir, also=also)


def _occurring(folder: Path) -> set[str]:
    if os.path.lexists(folder / _CLASSES):
        return set()
    names = os.listdir(folder / "masks")
    return {class_name(name) for name in names if not name.startswith(".") and (folder / "masks" / name).is_dir()}


KIND = Format("masks", "instance masks", "images/ with masks/", _finds, _reads, occurring=_occurring)
