"""Pascal VOC: one XML beside or for each image, read.

Coordinates: a box spans from xmin to xmax as the numbers stand, counted from 0 at the image's left edge, as
labelImg, CVAT, Roboflow and Label Studio write them, fractions included. Only the VOC challenge's own files
(`<database>The VOC2007 Database</database>` and its like) count pixels from 1, the last one included: there a
box spans from xmin - 1 to xmax. Swath writes the first kind.

`difficult` objects are kept as `iscrowd`: neither learned nor counted, which is what VOC means by it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.errors import DataError, NoSuchSplit
from data.formats.classes import listed_classes
from data.formats.format import Format, ReadOptions, Writer
from data.formats.names import Files, names_in, pairs, same, split_of
from data.formats.orientation import boxes_as_displayed
from data.formats.references import Roots, count_foreign, images_by_stem
from data.formats.repair import Notices, Unlabelled, box_areas, count_unlabelled, repair_boxes
from data.formats.text import label_text
from data.formats.voc_annotation import VocLabels, annotated_classes, read_annotation
from data.formats.voc_writer import CLASSES, IMAGES, save_voc, xml_can_hold

_XMLS = ("annotations", "xmls")
_IMAGES = ("jpegimages", "images")


@dataclass(frozen=True)
class _Tree:
    """What lies in a VOC folder: path without suffix -> file."""

    folder: Path
    images_dir: Path
    image_of: Mapping[str, Path]
    xml_of: Mapping[str, Path]


def voc_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of XML files and of images in `folder`; None where it holds no VOC dataset."""
    if not os.path.isdir(folder):
        return None
    names = {same(name): folder / name for name in reversed(names_in(folder))}
    xmls = [names[name] for name in _XMLS if name in names and _xmls(names[name])]
    images = [names[name] for name in _IMAGES if name in names and names[name].is_dir()]
    if xmls and images:
        return xmls[0], images[0]
    if xmls and same(xmls[0].name) == _XMLS[0]:  # the images may lie elsewhere
        return xmls[0], folder / IMAGES
    return (folder, folder) if any(map(_is_xml, names_in(folder))) else None


def read_voc(
    folder: Path,
    split: str = "train",
    *,
    unlabelled: Unlabelled = "background",
    images_dir: Path | None = None,
    also: Collection[str] = (),
) -> Dataset:
    """Read a Pascal VOC folder.

    `Annotations/*.xml` with `JPEGImages/`, `annotations/` with `images/`, or XML files beside their images.
    The split is listed in `ImageSets/Main/{train,val,test}.txt`; without such lists every image belongs to
    every split. Classes are those of `classes.txt` (one a line) in its order, or else those of all XML files, by
    the alphabet.

    Args:
        folder: holds those folders.
        split: "train", "val" ("valid" is the same) or "test".
        unlabelled: what an image without an XML is: "background", or not labelled yet: "skip" it.
        images_dir: the folder of the images, where those hold none; or what their links lead to.
        also: classes that occur in the dataset's other parts.

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
    files = images_by_stem(found_dir, roots) if os.path.isdir(found_dir) else {}
    if not files and images_dir is not None:
        found_dir, files = Path(images_dir), images_by_stem(Path(images_dir), roots)
    tree = _Tree(folder, found_dir, {stem.as_posix(): file for stem, file in files.items()}, _xmls(annotations))
    wanted = _listed(tree, split, notices)
    chosen = _chosen(tree, wanted, roots, notices)
    labels_of: dict[Path, VocLabels] = {}
    used: dict[Path, Path] = {}
    for file, xml in chosen:
        if xml is None:
            continue
        other = used.setdefault(file, xml)
        if other != xml:
            line = f"{other} and {xml} are both labels of {file}: remove one of them, or correct its <filename>"
            notices.fault(DataError(line, kind="image-repeated"), str(file))
            continue
        roots.check(xml, str(folder))
        for _, labels in notices.each([xml], lambda x: read_annotation(x, notices), str(xml)):
            labels_of[file] = labels
    without = [file for file, xml in chosen if xml is None and file not in used]
    known = {**labels_of, **dict.fromkeys(without if unlabelled == "background" else (), VocLabels())}
    labelled = [(file, known[file]) for file in dict.fromkeys(file for file, _ in chosen) if file in known]
    if not labelled:
        raise DataError(f"{folder}: split {split!r} is empty: no labelled images")
    here = {name for _, labels in labelled for name in labels.names}
    others = tree.xml_of.values() if wanted is not None else ()
    names = _classes(tree, here, {*also, *_occurring_in(others, roots)}, notices)
    label_of = {name: label for label, name in enumerate(names)}

    def image(numbered: tuple[int, tuple[Path, VocLabels]]) -> LabelledImage:
        image_id, (file, labels) = numbered
        return _image(image_id, file, labels, label_of, folder, roots, notices)

    numbered = enumerate(labelled, start=1)
    built = tuple(p for one in numbered for _, p in notices.each([one], image, str(one[1][0]), "image-unreadable"))
    count_foreign(roots, notices)
    count_unlabelled(without, "label file", unlabelled, notices)
    title = f"{folder}[{split}]" if wanted is not None else str(folder)
    return Dataset(title, names, tuple(range(1, len(names) + 1)), built, notices.lines())


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml") and not name.startswith(".")


def _xmls(folder: Path) -> dict[str, Path]:
    """The XML files below `folder`, by their path relative to it without the suffix."""
    there = [Path(home, name) for home, _, names in os.walk(folder) for name in names if _is_xml(name)]
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(there)}


def _chosen(tree: _Tree, wanted: list[str] | None, roots: Roots, notices: Notices) -> list[tuple[Path, Path | None]]:
    """The images of a split, each with its XML, or None."""
    xml_for = pairs(tree.image_of, tree.xml_of, str(tree.folder))
    for stem, label in xml_for.items():
        if stem != label:
            rest = "found under another spelling of its image's name (Unicode form or case)"
            notices.count("label file", "label files", rest, f"{label}: {tree.image_of[stem].name}")
    owners = {label: stem for stem, label in xml_for.items()}
    stems = wanted
    if stems is None:
        stems = [*tree.image_of, *(label for label in tree.xml_of if label not in owners)]
    files = Files(roots, notices)
    chosen: list[tuple[Path, Path | None]] = []
    for stem in stems:
        stem = owners.get(stem, stem) if stem not in tree.image_of else stem
        if stem in tree.image_of:
            own = xml_for.get(stem)
            chosen.append((tree.image_of[stem], tree.xml_of[own] if own is not None else None))
            continue
        try:
            chosen.append((_named(tree, stem, files, notices), tree.xml_of[stem]))
        except DataError as error:
            notices.fault(error, str(tree.xml_of[stem]), "image-missing")
    return chosen


def _named(tree: _Tree, stem: str, files: Files, notices: Notices) -> Path:
    """The image that an XML names by another stem than its own."""
    xml, home = tree.xml_of[stem], tree.images_dir
    file_name = read_annotation(xml, Notices(every=None)).file_name
    file = (
        files.find(file_name, list(dict.fromkeys([(home / stem).parent, home, xml.parent])), str(xml))
        if file_name
        else None
    )
    if file is None:
        expected = (home / stem).parent / file_name
        raise DataError(f"{xml}: its image is missing: neither {home / stem}.* nor {expected}: copy it there")
    return file


def _listed(tree: _Tree, split: str, notices: Notices) -> list[str] | None:
    """The stems of a split, as the files spell them; None where there are no lists at all."""
    home = tree.folder / "ImageSets" / "Main"
    lists = {name: split_of(Path(name).stem) for name in names_in(home) if name.lower().endswith(".txt")}
    if "train" not in lists.values() and "trainval.txt" in lists:
        lists["trainval.txt"] = "train"
    mine = [name for name, one in lists.items() if one == split_of(split)]
    if len(mine) > 1:
        raise DataError(f"{home}: {mine[0]} and {mine[1]} both list the part {split!r}: remove one of them")
    if not mine:
        there = ", ".join(one for one in ("train", "val", "test") if one in lists.values())
        if there:
            raise NoSuchSplit(f"{tree.folder}: no split {split!r} in ImageSets/Main; there is: {there}")
        if lists:
            notices.add(f"{home}: {', '.join(lists)} name no split: all images are taken")
        return None
    known = {same(stem): stem for stem in (*tree.xml_of, *tree.image_of)}
    known |= {stem: stem for stem in (*tree.xml_of, *tree.image_of)}
    listing = home / mine[0]
    stems = []
    for number, line in enumerate(label_text(listing, notices, kind="a VOC list").split("\n"), start=1):
        entry = line if line in known else line.strip()
        if not entry:
            continue
        stem = entry.replace("\\", "/") if entry not in known else entry
        if stem not in known and stem.rpartition(" ")[2] in ("-1", "0", "1"):  # VOC's lists for one class
            stem = stem.rpartition(" ")[0].rstrip()
        if Path(stem).is_absolute() or ".." in Path(stem).parts or "\0" in stem:
            raise DataError(f"{listing}: line {number}: {entry!r} leads out of the dataset's folder: refused")
        bare = stem.rpartition(".")[0]
        found = known.get(stem) or known.get(same(stem)) or known.get(bare) or known.get(same(bare))
        if found is None:
            xml = tree.folder / "**" / f"{stem}.xml"
            line = f"{listing}: line {number}: {entry} of split {split!r} has neither {xml} nor an image"
            notices.fault(DataError(line), str(listing), "image-missing")
            continue
        stems.append(found)
    return list(dict.fromkeys(stems))


def _classes(tree: _Tree, here: Collection[str], also: Collection[str], notices: Notices) -> tuple[str, ...]:
    listing = tree.folder / CLASSES
    if not os.path.lexists(listing):
        if not here and not also:
            raise DataError(f"{tree.folder}: no object in any XML, and no {CLASSES}: so nothing to detect")
        return tuple(sorted({*here, *also}))
    names = listed_classes(label_text(listing, notices, kind="a list of classes").split("\n"), str(listing))
    unknown = sorted(set(here) - set(names))
    if unknown:
        raise DataError(f"{listing}: lacks {', '.join(unknown)}: correct it")
    return names


def _occurring_in(xmls: Iterable[Path], roots: Roots) -> set[str]:
    return set().union(*(annotated_classes(xml) for xml in xmls if roots.holds(xml)))


def _image(
    image_id: int,
    file: Path,
    labels: VocLabels,
    label_of: Mapping[str, int],
    folder: Path,
    roots: Roots,
    notices: Notices,
) -> LabelledImage:
    roots.check(file, str(folder))
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
        labels.attributes or {},
        truncated,
    )


def _finds(folder: Path, split: str) -> list[Path]:
    return [folder] if voc_folders(folder) else []


def _reads(path: Path, options: ReadOptions) -> Dataset:
    images_dir, also = options.images_dir, options.also
    return read_voc(path, options.split, unlabelled=options.unlabelled, images_dir=images_dir, also=also)


def _occurring(folder: Path) -> set[str]:
    found = None if os.path.lexists(folder / CLASSES) else voc_folders(folder)
    return _occurring_in(_xmls(found[0]).values(), Roots(folder)) if found else set()


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
    occurring=_occurring,
)
