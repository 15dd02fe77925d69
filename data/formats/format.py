"""What a dataset format is: its name, and how it is recognised, read and written. Each format's file has a `KIND`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.dataset import Dataset
from data.formats.repair import Unlabelled

Property = Literal["class ids", "image ids", "areas", "crowds", "truncated", "attributes"]
"""What a `Dataset` holds beside images, boxes and class names, and what not every format can represent."""

ALL_PROPERTIES: frozenset[Property] = frozenset(
    ("class ids", "image ids", "areas", "crowds", "truncated", "attributes")
)


@dataclass(frozen=True)
class ReadOptions:
    """What a reader needs to know besides the path.

    Attributes:
        split: "train", "val" ("valid" is the same) or "test"; a format without splits ignores it.
        unlabelled: what an image without labels is; a format that lists its background images ignores it.
        images_dir: the folder of the images, where they are not where the format keeps them; it exists.
        also: classes that occur in the dataset's other parts, see `Format.occurring`.

    """

    split: str = "train"
    unlabelled: Unlabelled = "background"
    images_dir: Path | None = None
    also: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Writer:
    """How `data.formats.convert` writes a format.

    Attributes:
        save: called with split -> dataset (all with the same classes), split -> the path of each of its images,
            and the new dataset's folder. Paths are relative to that folder, in the order of the images.
        image_folder: where images go in that folder; `{split}` in it is replaced by the split's name.
        images_inside: the format finds images in that folder only: they are linked there if they are not copied.
        own_digests: the labels hold digests of images outside of the folder, so no `references.json` is needed.
        represents: the properties that survive; the others are counted and reported as lost.
        first_class_id: the number of the first class, where class ids are not represented.
        can_write: whether a name or value of an attribute can be written unchanged.

    """

    save: Callable[[Mapping[str, Dataset], Mapping[str, Sequence[str]], Path], None]
    image_folder: str = "images"
    images_inside: bool = False
    own_digests: bool = False
    represents: frozenset[Property] = frozenset()
    first_class_id: int = 0
    can_write: Callable[[str], bool] = lambda text: True


@dataclass(frozen=True)
class Format:
    """A dataset format.

    Attributes:
        name: what `--format`, `--to` and `data.format` take: one lower-case word.
        title: its name in a sentence.
        looked_for: the files or folders by which it is recognised in a folder, for help and messages.
        finds: called with a folder and a split; the files or folders that describe a dataset of this format there,
            none where there are none. Raises `NoSuchSplit` where there are some, but of other splits.
        reads: called with one of those, or a file that the user named; raises `DataError`.
        suffixes: the suffixes of files that can be named themselves, lower case; none where only folders can.
        recognises: whether a file that `finds` found by its usual name is really of this format; a format that
            the user names is not doubted.
        writes: None where Swath only reads it.
        occurring: called with what `finds` found; the classes that occur there, where a dataset's classes are those
            that occur in any of its parts; None for a format that lists its classes.

    """

    name: str
    title: str
    looked_for: str
    finds: Callable[[Path, str], Sequence[Path]]
    reads: Callable[[Path, ReadOptions], Dataset]
    suffixes: tuple[str, ...] = ()
    recognises: Callable[[Path], bool] = lambda path: True
    writes: Writer | None = None
    occurring: Callable[[Path], Iterable[str]] | None = None
