"""`Dataset` and `LabelledImage`: images, their boxes, class names and attributes, from any format."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.images import read_image_at
from data.window import Window

_WHOLE_BYTES = 1 << 20  # files up to this size are hashed whole, larger ones at five places
_SAMPLE_BYTES = 1 << 16
_ROUNDING_PX = 0.01


def _frozen(name: str, value: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only copy of `value`; -1 in `shape` matches any length."""
    given = np.asarray(value)
    if given.size and np.issubdtype(dtype, np.integer) and not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {given.dtype}")
    array = np.array(given, dtype=dtype)
    if array.ndim != len(shape) or any(w not in (-1, s) for w, s in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{name} must have shape {tuple('N' if s < 0 else s for s in shape)}, got {array.shape}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One labelled image; its arrays are read-only copies.

    Attributes:
        image_id: the dataset's own id; unique in a `Dataset`.
        path: the image file.
        size_hw: height and width in pixels as displayed (EXIF orientation applied); of the window, where it
            is one.
        boxes_xyxy: float32 (N, 4), absolute pixels of the image as displayed, continuous corners,
            inside the image, x2 > x1 and y2 > y1. N may be 0: a background image.
        labels: int64 (N,), index into the dataset's `class_names`.
        areas_px: float64 (N,), the annotation's own area (of a mask) where it gave one, else the box's.
        iscrowd: bool (N,), a group of objects, used neither for training nor for metrics.
        attributes: further facts about the image (`field`, `session`, `camera`, ...).
        truncated: bool (N,), labelled as continuing outside of the image; all False where left out.
        window: the part of the photo in `path` that this image is; None: the whole file.
        boxes_xywh: float64 (N, 4), the same boxes as left, top, width and height, for pycocotools: with every digit
            that a COCO JSON, or the corners before they became float32, gave. Where it does not belong to
            `boxes_xyxy`, as after a change of these, it is computed from them.

    Raises:
        ValueError: shapes or dtypes are wrong, a box is not inside the image, or the window is of another size.

    """

    image_id: int
    path: Path
    size_hw: tuple[int, int]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    areas_px: NDArray[np.float64]
    iscrowd: NDArray[np.bool_]
    attributes: Mapping[str, str] = field(default_factory=dict)
    truncated: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    window: Window | None = None
    boxes_xywh: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))

    def __post_init__(self) -> None:
        corners = np.asarray(self.boxes_xyxy, np.float64)
        boxes = _frozen("boxes_xyxy", self.boxes_xyxy, np.float32, (-1, 4))
        height, width = self.size_hw
        if height < 1 or width < 1:
            raise ValueError(f"size_hw must be positive, got {self.size_hw}")
        inside = (boxes >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        if not inside or not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ValueError(f"{self.path}: boxes must lie inside the image, x2 > x1 and y2 > y1")
        if self.window is not None and self.window.size_hw != (height, width):
            raise ValueError(f"{self.path}: a window of {self.window.size_hw} in an image of {self.size_hw}")
        n = len(boxes)
        set_field = object.__setattr__
        set_field(self, "path", Path(self.path))
        set_field(self, "size_hw", (int(height), int(width)))
        set_field(self, "boxes_xyxy", boxes)
        set_field(self, "labels", _frozen("labels", self.labels, np.int64, (n,)))
        set_field(self, "areas_px", _frozen("areas_px", self.areas_px, np.float64, (n,)))
        set_field(self, "iscrowd", _frozen("iscrowd", self.iscrowd, np.bool_, (n,)))
        truncated = self.truncated if len(self.truncated) else np.zeros(n, np.bool_)
        set_field(self, "truncated", _frozen("truncated", truncated, np.bool_, (n,)))
        set_field(self, "boxes_xywh", _frozen("boxes_xywh", _xywh(self.boxes_xywh, corners), np.float64, (n, 4)))
        set_field(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes get images by pickle, which knows neither read-only arrays nor mapping proxies.
        arrays = (self.boxes_xyxy, self.labels, self.areas_px, self.iscrowd)
        rest = (dict(self.attributes), self.truncated, self.window, self.boxes_xywh)
        return LabelledImage, (self.image_id, self.path, self.size_hw, *arrays, *rest)

    def read(self) -> NDArray[np.uint8]:
        """The pixels that the boxes lie on: uint8 (*size_hw, 3), BGR.

        Raises:
            DataError: the file cannot be read, or its size has changed since its labels were read.

        """
        if self.window is None:
            return read_image_at(self.path, self.size_hw, self.size_hw)
        return self.window.cut(read_image_at(self.path, self.window.photo_hw, self.window.photo_hw))


def _xywh(given_xywh: NDArray[np.float64], corners_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes (N, 4) as given, and computed from their corners where those are of other boxes."""
    computed = np.concatenate([corners_xyxy[:, :2], corners_xyxy[:, 2:] - corners_xyxy[:, :2]], axis=1)
    given = np.asarray(given_xywh, np.float64)
    if given.shape != computed.shape:
        return computed
    theirs = np.concatenate([given[:, :2], given[:, :2] + given[:, 2:]], axis=1)
    # what rounding moved over the edge was clipped in the corners, without a word
    same = np.all(np.abs(theirs - corners_xyxy) <= _ROUNDING_PX, axis=1, keepdims=True)
    return np.where(same, given, computed)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images of one source; a transform returns a new one.

    Attributes:
        name: where it came from, for messages.
        class_names: (C,) names; `LabelledImage.labels` index into them.
        category_ids: (C,) the source's own class ids, aligned with `class_names`.
        images: in the order of the source.
        notices: one line for each thing that was repaired or assumed while reading.

    Raises:
        ValueError: names and ids disagree or repeat, image ids repeat, or a label has no class.

    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[LabelledImage, ...]
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("class_names", "category_ids", "images", "notices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        count = len(self.class_names)
        if len(set(self.class_names)) != count or len(set(self.category_ids)) != len(self.category_ids):
            raise ValueError(f"class names and category ids must each be unique: {self.class_names}")
        if len(self.category_ids) != count:
            raise ValueError(f"{count} class names but {len(self.category_ids)} category ids")
        if len({image.image_id for image in self.images}) != len(self.images):
            raise ValueError("image ids must be unique")
        for image in self.images:
            if len(image.labels) and not 0 <= image.labels.min() <= image.labels.max() < count:
                raise ValueError(f"{image.path}: labels must be 0 to {count - 1}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def box_count(self) -> int:
        """Number of boxes in all images, crowds included."""
        return sum(len(image.boxes_xyxy) for image in self.images)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The images at `indices`, in that order, under the same classes.

        `notices` are not copied: they belong to the whole.
        """
        chosen = tuple(self.images[index] for index in indices)
        return Dataset(self.name, self.class_names, self.category_ids, chosen)

    def spread(self, most: int) -> Dataset:
        """At most `most` of the images, evenly spread, so that all fields and days are represented."""
        indices = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).astype(int))
        return self.subset(indices.tolist())

    def read(self) -> Iterator[tuple[LabelledImage, NDArray[np.uint8]]]:
        """Each image with its pixels, uint8 (H, W, 3) BGR. Successive windows of one photo decode it once.

        Raises:
            DataError: as `LabelledImage.read` does.

        """
        path: Path | None = None
        photo = np.zeros((0, 0, 3), np.uint8)
        for image in self.images:
            if image.window is None:
                yield image, image.read()
                continue
            if image.path != path:
                path, photo_hw = image.path, image.window.photo_hw
                photo = read_image_at(path, photo_hw, photo_hw)
            yield image, image.window.cut(photo)

    def fingerprint(self) -> str:
        """A digest of the dataset's content, as "sha256:" and 64 hex digits.

        The same on every machine, in every folder and order, under any file name; it differs when a
        class, a box, an image or a window differs. Boxes count to a hundredth of a pixel. Images above
        1 MiB are hashed by their length and five samples of 64 KiB.

        Raises:
            DataError: an image cannot be read.

        """
        names = "\0".join(self.class_names).encode()
        digests = sorted(_image_digest(image) for image in self.images)
        whole = hashlib.sha256(hashlib.sha256(names).digest() + b"".join(digests))
        return f"sha256:{whole.hexdigest()}"


def _image_digest(image: LabelledImage) -> bytes:
    columns = (image.labels, image.iscrowd, *np.rint(image.boxes_xyxy.T.astype(np.float64) * 100))
    rows = np.stack([np.asarray(column, np.float64).astype("<i8") for column in columns], axis=1)
    rows = rows[np.lexsort(rows.T)]  # the order of boxes does not matter
    digest = hashlib.sha256(np.array([*image.size_hw, len(rows)], "<i8").tobytes() + rows.tobytes())
    if image.window is not None:
        digest.update(np.array([*image.window.photo_hw, *image.window.corners_xyxy], "<i8").tobytes())
    try:
        with image.path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            digest.update(length.to_bytes(8, "little"))
            if length <= _WHOLE_BYTES:
                digest.update(file.read())
            else:
                for fifth in range(5):
                    file.seek((length - _SAMPLE_BYTES) * fifth // 4)
                    digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise DataError(f"{image.path}: cannot be read ({error.strerror or error})") from None
    return digest.digest()


def merged(parts: Mapping[str, Dataset]) -> Dataset:
    """Datasets as one, image ids renumbered where they repeat; an image file that is in several counts once.

    Raises:
        DataError: there is none, or an image file has other boxes in another part.

    """
    if not parts:
        raise DataError("no datasets to put together")
    some = list(same_classes(parts).values())
    first = some[0]
    by_file: dict[tuple[str, Window | None], LabelledImage] = {}
    for image in (image for part in some for image in part.images):
        other = by_file.setdefault((os.path.realpath(image.path), image.window), image)
        if other is not image and _image_boxes(other) != _image_boxes(image):
            raise DataError(
                f"{image.path}: is in several parts ({', '.join(parts)}) with other boxes in each: correct one"
            )
    images = tuple(by_file.values())
    if len({image.image_id for image in images}) < len(images):
        images = tuple(replace(image, image_id=number) for number, image in enumerate(images, start=1))
    notices = dict.fromkeys(line for part in some for line in part.notices)
    repeated = sum(map(len, some)) - len(images)
    more = [f"{repeated} images are in several parts: taken once"] if repeated else []
    return Dataset(first.name, first.class_names, first.category_ids, images, (*notices, *more))


def _image_boxes(image: LabelledImage) -> list[tuple[float, ...]]:
    rows = zip(image.labels.tolist(), image.iscrowd.tolist(), image.boxes_xyxy.tolist(), strict=True)
    return sorted((label, crowd, *box) for label, crowd, box in rows)


def under_classes(dataset: Dataset, names: Sequence[str], ids: Sequence[int]) -> Dataset:
    """The dataset with other classes, which include all of its own by name."""
    to_new = np.array([names.index(name) for name in dataset.class_names], np.int64)
    images = tuple(replace(image, labels=to_new[image.labels]) for image in dataset.images)
    return replace(dataset, class_names=tuple(names), category_ids=tuple(ids), images=images)


def same_classes(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The parts under one list of classes, that of all parts together: a part may lack one.

    Numbers stay where the parts agree on them; else classes are numbered from 1 in the order of their appearance.
    """
    some = list(parts.values())
    if all((d.class_names, d.category_ids) == (some[0].class_names, some[0].category_ids) for d in some):
        return dict(parts)
    pairs = dict.fromkeys(
        pair for dataset in some for pair in zip(dataset.class_names, dataset.category_ids, strict=True)
    )
    names = tuple(dict.fromkeys(name for name, _ in pairs))
    ids = [class_id for _, class_id in pairs]
    agreed = len(pairs) == len(names) == len(set(ids))
    if agreed:
        ordered = sorted(pairs, key=lambda pair: pair[1])
        names, ids = tuple(name for name, _ in ordered), [class_id for _, class_id in ordered]
    else:
        ids = list(range(1, len(names) + 1))
    return {split: under_classes(dataset, names, ids) for split, dataset in parts.items()}
