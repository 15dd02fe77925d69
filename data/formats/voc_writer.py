"""Pascal VOC folders, written. What its numbers mean stands in `data.formats.voc`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import write_whole
from data.formats.voc import CLASSES, CORNERS

_UNSAYABLE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 has no way to write these


def save_voc(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write datasets as one Pascal VOC folder: XML files, lists of the splits and `classes.txt`.

    Args:
        parts: split -> dataset; all with the same classes.
        places: for each split the paths of its images relative to `JPEGImages`, in order.
        home: the dataset's folder; the images are there already, in `JPEGImages`.

    Raises:
        DataError: a class name cannot be written in a list, or a file cannot be written.

    """
    names = next(iter(parts.values())).class_names
    if any("\n" in name or "\r" in name or not name or _UNSAYABLE.search(name) for name in names):
        raise DataError(f"{home}: a class name is empty or has control characters, which VOC cannot say: rename it")
    for split, dataset in parts.items():
        stems = [place.rpartition(".")[0] for place in places[split]]
        for image, place, stem in zip(dataset.images, places[split], stems, strict=True):
            write_whole(home / "Annotations" / f"{stem}.xml", _xml(image, place, names), sync=False)
        write_whole(home / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    write_whole(home / CLASSES, "".join(f"{name}\n" for name in names))


def voc_cannot_say(text: str) -> bool:
    """Whether XML has no way to write `text`, or would change it."""
    return _UNSAYABLE.search(text) is not None


def _xml(image: LabelledImage, place: str, names: Sequence[str]) -> bytes:
    root = Element("annotation")
    folder, _, file_name = ("JPEGImages/" + place).rpartition("/")
    SubElement(root, "folder").text = folder
    SubElement(root, "filename").text = file_name
    SubElement(SubElement(root, "source"), "database").text = "Unknown"
    size = SubElement(root, "size")
    for tag, value in zip(("height", "width", "depth"), (*image.size_hw, 3), strict=True):
        SubElement(size, tag).text = str(value)
    SubElement(root, "segmented").text = "0"
    columns = (image.boxes_xyxy, image.labels, image.truncated, image.iscrowd)
    for box, label, truncated, difficult in zip(*columns, strict=True):
        item = SubElement(root, "object")
        SubElement(item, "name").text = names[label]
        SubElement(item, "pose").text = "Unspecified"
        SubElement(item, "truncated").text = str(int(truncated))
        SubElement(item, "difficult").text = str(int(difficult))
        bndbox = SubElement(item, "bndbox")
        for tag, value in zip(CORNERS, box, strict=True):
            # The shortest digits that give the same float32 again.
            SubElement(bndbox, tag).text = np.format_float_positional(value, trim="-")
    said = {k: v for k, v in image.attributes.items() if not voc_cannot_say(k) and not voc_cannot_say(v)}
    if said:
        attributes = SubElement(root, "attributes")
        for name, text in said.items():
            one = SubElement(attributes, "attribute")
            SubElement(one, "name").text = name
            SubElement(one, "value").text = text
    indent(root)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"
