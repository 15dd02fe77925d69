"""Pascal VOC folders, written. `data.formats.voc` explains the meaning of the coordinates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.files import write_whole

IMAGES = "JPEGImages"
"""The folder of the images that is written."""

CLASSES = "classes.txt"
"""Beside the folders of a VOC dataset: its classes, one a line. VOC proper has no such list."""

CORNERS = ("xmin", "ymin", "xmax", "ymax")
"""The tags of a box, in the order of `boxes_xyxy`."""

# XML 1.0 has no way to write these.
_NOT_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def save_voc(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write datasets as one Pascal VOC folder: XML files, lists of the splits and `classes.txt`.

    Args:
        parts: split -> dataset; all with the same classes.
        places: for each split the paths of its images relative to `home`, in order: `JPEGImages/...`.
        home: the dataset's folder; the images are there already.

    Raises:
        DataError: a class name cannot be written in a list, or a file cannot be written.

    """
    names = next(iter(parts.values())).class_names
    if any("\n" in name or "\r" in name or not name or not xml_can_hold(name) for name in names):
        raise DataError(f"{home}: a class name is empty or holds control characters, which VOC cannot represent")
    for split, dataset in parts.items():
        stems = [place.removeprefix(f"{IMAGES}/").rpartition(".")[0] for place in places[split]]
        for image, place, stem in zip(dataset.images, places[split], stems, strict=True):
            write_whole(home / "Annotations" / f"{stem}.xml", _xml(image, place, names), sync=False)
        write_whole(home / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    write_whole(home / CLASSES, "".join(f"{name}\n" for name in names))


def xml_can_hold(text: str) -> bool:
    """Whether XML can hold `text` unchanged."""
    return _NOT_IN_XML.search(text) is None


def _xml(image: LabelledImage, place: str, names: Sequence[str]) -> bytes:
    root = Element("annotation")
    folder, _, file_name = place.rpartition("/")
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
    writable = {k: v for k, v in image.attributes.items() if xml_can_hold(k) and xml_can_hold(v)}
    if writable:
        attributes = SubElement(root, "attributes")
        for name, text in writable.items():
            one = SubElement(attributes, "attribute")
            SubElement(one, "name").text = name
            SubElement(one, "value").text = text
    indent(root)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"
