"""Pascal VOC: one XML beside or for each image, read.

Coordinates: a box spans from xmin to xmax as the numbers stand, counted from 0 at the image's left edge, as
labelImg, CVAT, Roboflow and Label Studio write them, fractions included. Only the VOC challenge's own files
(`<database>The VOC2007 Database</database>` and its like) count pixels from 1, the last one included: there a
box spans from xmin - 1 to xmax. Swath writes the first kind.

`difficult` objects are kept as `iscrowd`: neither learned nor counted, which is what VOC means by it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np

from data.dataset import SPLITS, Dataset, LabelledImage
from data.errors import DataError, NoSuchSplit
from data.files import read_bytes, read_text
from data.formats.format import Format, ReadOptions, Writer
from data.formats.orientation import boxes_as_displayed
from data.formats.references import Roots, images_by_stem
from data.formats.repair import Notices, Unlabelled, box_areas, count_unlabelled, repair_boxes
from data.formats.voc_writer import CLASSES, CORNERS, IMAGES, save_voc, xml_can_hold

_FOLDERS = (("Annotations", "JPEGImages"), ("annotations", "images"), ("Annotations", "images"), ("xmls", "images"))
_XML_LIMIT_BYTES = 16 << 20
_OWN = re.compile(r"VOC ?20\d\d", re.IGNORECASE)  # the challenge's files


@dataclass(frozen=True)
class _Labels:
    """The content of one XML."""

    names: Sequence[str]
    boxes_xyxy: Sequence[tuple[float, float, float, float]]
    difficult: Sequence[bool]
    truncated: Sequence[bool]
    given_hw: tuple[int | None, int | None]
    attributes: Mapping[str, str]


def voc_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of XML files and of images in `folder`; None where it holds no VOC dataset."""
    for xmls, images in _FOLDERS:
        if os.path.isdir(folder / images) and _has_xml(folder / xmls):
            return folder / xmls, folder / images
    if _has_xml(folder / _FOLDERS[0][0]):  # the images may lie elsewhere
        return folder / _FOLDERS[0][0], folder / _FOLDERS[0][1]
    beside = os.path.isdir(folder) and any(name.endswith(".xml") for name in os.listdir(folder))
    return (folder, folder) if beside else None


def read_voc(
    folder: Path, split: str = "train", *, unlabelled: Unlabelled = "background", images_dir: Path | None = None
) -> Dataset:
    """Read a Pascal VOC folder.

    `Annotations/*.xml` with `JPEGImages/`, `annotations/` with `images/`, or XML files beside their images.
    The split is listed in `ImageSets/Main/{train,val,test}.txt`; without such lists every image belongs to
    every split. Classes are those of `classes.txt` (one a line) in its order, or else by the alphabet.

    Args:
        folder: holds those folders.
        split: "train", "val" ("valid" is the same) or "test".
        unlabelled: what an image without an XML is: "background", or not labelled yet: "skip" it.
        images_dir: the folder of the images, where those hold none; or what their links lead to.

    Raises:
        NoSuchSplit: there are lists of other splits only.
        DataError: an XML or an image is faulty, or leads out of the dataset (see `data.formats.references`).

    """
    found = voc_folders(folder)
    if found is None:
        raise DataError(f"{folder}: no Pascal VOC dataset; looked for Annotations/*.xml with JPEGImages, and *.xml")
    annotations, found_dir = found
    roots = Roots(folder, images_dir=images_dir)
    notices = Notices()
    image_of = images_by_stem(found_dir, roots) if os.path.isdir(found_dir) else {}
    if not image_of and images_dir is not None:
        found_dir, image_of = Path(images_dir), images_by_stem(Path(images_dir), roots)
    wanted = _listed(folder, split)
    stems = list(image_of)
    if wanted is None:
        there = (Path(home, name) for home, _, names in os.walk(annotations) for name in names)
        orphans = {file.relative_to(annotations).with_suffix("") for file in there if file.suffix == ".xml"}
        stems += sorted(orphans - set(image_of))
    else:
        stems = wanted
    labelled: list[tuple[Path, _Labels | None]] = []
    without: list[Path] = []
    for stem in stems:
        xml = annotations / f"{stem}.xml"
        labels = None
        if os.path.lexists(xml):
            roots.check(xml, str(folder))
            labels, file_name = _labels(xml)
            file = image_of.get(stem) or _named(found_dir, stem, file_name, xml)
        elif stem in image_of:
            file = image_of[stem]
            without.append(file)
        else:
            raise DataError(f"{folder}: {stem} of split {split!r} has neither {xml} nor an image")
        if labels is not None or unlabelled == "background":
            labelled.append((file, labels))
    if not labelled:
        raise DataError(f"{folder}: split {split!r} is empty: no labelled images")
    names = _classes(folder, [name for _, labels in labelled if labels for name in labels.names])
    label_of = {name: label for label, name in enumerate(names)}

    def image(numbered: tuple[int, tuple[Path, _Labels | None]]) -> LabelledImage:
        image_id, (file, labels) = numbered
        return _image(image_id, file, labels, label_of, folder, roots, notices)

    pairs = enumerate(labelled, start=1)
    built = tuple(p for pair in pairs for _, p in notices.each([pair], image, str(pair[1][0]), "image-unreadable"))
    count_unlabelled(without, "label file", unlabelled, notices)
    title = f"{folder}[{split}]" if wanted is not None else str(folder)
    return Dataset(title, names, tuple(range(1, len(names) + 1)), built, notices.lines())


def _has_xml(folder: Path) -> bool:
    return any(name.endswith(".xml") for _, _, names in os.walk(folder) for name in names)


def _listed(folder: Path, split: str) -> list[Path] | None:
    """The stems of a split; None where there are no lists at all."""
    home = folder / "ImageSets" / "Main"
    there = [name for names in SPLITS.values() for name in names if os.path.isfile(home / f"{name}.txt")]
    mine = [name for name in SPLITS[split] if name in there]
    if not mine:
        if there:
            known = ", ".join(dict.fromkeys(there))
            raise NoSuchSplit(f"{folder}: no split {split!r} in ImageSets/Main; there is: {known}")
        return None
    listing = home / f"{mine[0]}.txt"
    stems = []
    for number, line in enumerate(read_text(listing, kind="a VOC list").split("\n"), start=1):
        stem = line.strip()
        if stem:
            if Path(stem).is_absolute() or ".." in Path(stem).parts or "\0" in stem:
                raise DataError(f"{listing}: line {number}: {stem!r} leads out of the dataset's folder: refused")
            stems.append(Path(stem))
    return list(dict.fromkeys(stems))


def _named(images_dir: Path, stem: Path, file_name: str, xml: Path) -> Path:
    """The image that an XML names by another stem than its own."""
    file = images_dir / stem.parent / file_name
    if file_name and os.path.exists(file) and not os.path.isdir(file):
        return Path(os.path.abspath(file))
    raise DataError(f"{xml}: its image is missing: neither {images_dir / stem}.* nor {file}: copy it there")


def _labels(xml: Path) -> tuple[_Labels, str]:
    """The content of an XML, and the file name of its image."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(read_bytes(xml, kind="a VOC annotation", limit_bytes=_XML_LIMIT_BYTES), forbid_dtd=True)
    except DefusedXmlException:
        raise DataError(f"{xml}: holds a document type or entities, which no VOC annotation needs: refused") from None
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{xml}: not valid XML ({error}): export it again") from None
    if root.tag != "annotation":
        raise DataError(f"{xml}: not a VOC annotation: its root is <{root.tag}>")
    first = 1.0 if _OWN.search(root.findtext("source/database") or "") else 0.0
    names, boxes, difficult, truncated = [], [], [], []
    for number, item in enumerate(root.findall("object"), start=1):
        where = f"{xml}: object {number}"
        name = item.findtext("name")
        if not name:
            raise DataError(f"{where} has no name")
        x1, y1, x2, y2 = (_number(item.findtext(f"bndbox/{tag}"), f"{where}: {tag}") for tag in CORNERS)
        names.append(name)
        boxes.append((x1 - first, y1 - first, x2, y2))
        difficult.append(_flag(item, "difficult", where))
        truncated.append(_flag(item, "truncated", where))
    size = [root.findtext(f"size/{tag}") for tag in ("height", "width")]
    height, width = (None if text is None else int(_number(text, f"{xml}: size")) for text in size)
    attributes = {
        one.findtext("name") or "": one.findtext("value") or "" for one in root.findall("attributes/attribute")
    }
    # Some tools write 0 x 0 where they do not know.
    given_hw = (height, width) if height and width else (None, None)
    return _Labels(names, boxes, difficult, truncated, given_hw, attributes), root.findtext("filename") or ""


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: not a number: {text!r}")
    return value


def _flag(item: Any, tag: str, where: str) -> bool:
    text = (item.findtext(tag) or "0").strip()
    if text not in ("0", "1"):
        raise DataError(f"{where}: {tag} must be 0 or 1, got {text!r}")
    return text == "1"


def _classes(folder: Path, used: Sequence[str]) -> tuple[str, ...]:
    if not os.path.lexists(folder / CLASSES):
        if not used:
            raise DataError(f"{folder}: no object in any XML, and no {CLASSES}: so nothing to detect")
        return tuple(sorted(set(used)))
    lines = read_text(folder / CLASSES, kind="a list of classes").split("\n")
    names = tuple(name for name in (line.removesuffix("\r") for line in lines) if name)
    unknown = sorted(set(used) - set(names))
    if unknown or len(set(names)) != len(names):
        fault = f"lacks {', '.join(unknown)}" if unknown else "names a class twice"
        raise DataError(f"{folder / CLASSES}: {fault}: correct it")
    return names


def _image(
    image_id: int,
    file: Path,
    labels: _Labels | None,
    label_of: Mapping[str, int],
    folder: Path,
    roots: Roots,
    notices: Notices,
) -> LabelledImage:
    roots.check(file, str(folder))
    labels = labels or _Labels((), (), (), (), (None, None), {})
    boxes = np.array(labels.boxes_xyxy, np.float64).reshape(-1, 4)
    boxes, size_hw = boxes_as_displayed(boxes, labels.given_hw, file, folder, notices)
    kept, keep = repair_boxes(boxes, size_hw, notices, str(file))
    difficult, truncated = (np.array(flags, np.bool_)[keep] for flags in (labels.difficult, labels.truncated))
    notices.count("box", "boxes", "marked difficult: not used for training", str(file), int(difficult.sum()))
    return LabelledImage(
        image_id,
        file,
        size_hw,
        kept,
        np.array([label_of[name] for name in labels.names], np.int64)[keep],
        box_areas(kept),
        difficult,
        labels.attributes,
        truncated,
    )


def _finds(folder: Path, split: str) -> list[Path]:
    return [folder] if voc_folders(folder) else []


def _reads(path: Path, options: ReadOptions) -> Dataset:
    return read_voc(path, options.split, unlabelled=options.unlabelled, images_dir=options.images_dir)


KIND = Format(
    "voc",
    "Pascal VOC",
    "Annotations/*.xml or *.xml",
    _finds,
    _reads,
    writes=Writer(
        save_voc,
        image_folder=IMAGES,
        images_inside=True,
        represents=frozenset(("crowds", "truncated", "attributes")),
        first_class_id=1,
        can_write=xml_can_hold,
    ),
)
