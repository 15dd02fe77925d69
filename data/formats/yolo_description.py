"""What describes a YOLO dataset: `data.yaml`, Darknet's `obj.data`, or a list of class names beside the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from data.errors import DataError, PartMissing
from data.formats.classes import Classes, numbered_classes
from data.formats.names import Files, names_in, same, split_of
from data.formats.repair import Notices
from data.formats.text import label_text
from data.images import IMAGE_SUFFIXES
from data.yaml_text import LIMIT_BYTES, YamlError, compose_yaml

YAML_FILES = ("data.yaml", "data.yml")
CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
"""Lists of class names, one a line: of Label Studio and labelImg, Darknet and CVAT, Roboflow."""


@dataclass(frozen=True)
class Description:
    """A YOLO dataset before its labels are read.

    Attributes:
        path: the file that describes it.
        root: the folder that its parts are relative to.
        classes: its classes.
        parts: split -> the folders or lists of images, as they are written; "" for all that there is.
        keypoints: label lines go on after the box.

    """

    path: Path
    root: Path
    classes: Classes
    parts: Mapping[str, Sequence[str]]
    keypoints: bool = False


def describe(path: Path, notices: Notices) -> Description:
    """Read the description of a dataset.

    Args:
        path: a YAML; a `.data` file of Darknet; or a list of class names.
        notices: receives what was assumed.

    Raises:
        DataError: it cannot be read, or describes no dataset.

    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return _of_yaml(path, notices)
    if path.suffix.lower() == ".data":
        return _of_darknet(path, notices)
    classes = _class_list(path, notices)
    return Description(path, path.parent, classes, _parts_of(path.parent))


def description_files(folder: Path) -> list[Path]:
    """What describes a YOLO dataset in `folder`: the first kind of file that there is."""
    by_name = {same(name): folder / name for name in names_in(folder)}
    named = [by_name[name] for name in YAML_FILES if name in by_name]
    named = named or [file for name, file in by_name.items() if name.endswith(".data") and os.path.isfile(file)]
    listed = [by_name[name] for name in CLASS_FILES if name in by_name][:1]
    return named or (listed if listed and _has_labels(folder) else [])


def describing(listing: Path) -> Path:
    """What names the classes of a list of images: beside it, or up to two folders above.

    Raises:
        DataError: there is nothing.

    """
    if not listing.is_file():
        raise DataError(f"{listing}: no such list of images")
    for home in list(listing.parents)[:3]:
        by_name = {same(name): home / name for name in names_in(home)}
        found = [by_name[name] for name in (*YAML_FILES, *CLASS_FILES) if name in by_name]
        if found:
            return found[0]
    raise DataError(
        f"{listing}: a list of images needs class names: put a data.yaml with names, or a classes.txt, beside it"
    )


def place_of(entry: str, split: str, described: Description, files: Files, notices: Notices) -> Path:
    """The folder or .txt list that `entry` of `split` means.

    Raises:
        PartMissing: there is none.
        DataError: two would do.

    """
    root = described.root
    if not entry:
        return root
    slashed = entry.replace("\\", "/")
    for text in dict.fromkeys((entry, slashed)):
        # Roboflow writes `../train/images` although the folder lies beside the YAML.
        inside = PurePosixPath(*(part for part in PurePosixPath(text).parts if part != ".."))
        for place in (root / inside, root / text):
            if os.path.exists(place):
                if text != entry:
                    notices.add(f"{entry} of {described.path.name} is taken as {text}")
                return Path(os.path.abspath(place))
    if slashed.lower().endswith(".txt"):
        listing = files.find(entry, [root, described.path.parent], str(described.path))
        if listing is not None:
            return listing
    parts = [part for part in PurePosixPath(slashed).parts if part not in ("/", "..")]
    for at in range(len(parts)):
        named = any(split_of(part, numbered=True) == split for part in parts[at:])
        alike = files.folders_like(root, parts[at:]) if at == 0 or named else []
        if len(alike) > 1:
            raise DataError(f"{described.path}: {entry} may be {alike[0]} or {alike[1]}: rename one of them")
        if alike:
            notices.add(f"{entry} of {described.path.name} is taken as {alike[0]}")
            return alike[0]
    near = next((near for at in range(len(parts)) if (near := _near(root, parts[at:], split))), None)
    hint = f"; there is {near}: correct the entry" if near else ""
    missing = f"{Path(os.path.abspath(root / slashed))} does not exist{hint}"
    raise PartMissing(f"{described.path}: split {split!r} is not there ({missing})", near=near)


def _near(root: Path, parts: Sequence[str], split: str) -> Path | None:
    """What was probably meant by a path that does not exist: the folder of the same split, or of nearly that name."""
    place = root
    for part in parts:
        if os.path.exists(place / part):
            place /= part
            continue
        names = names_in(place)
        alike = [name for name in names if split_of(name, numbered=True) == split and split_of(part, numbered=True)]
        alike = alike or get_close_matches(part, names, 1)
        if not alike:
            return None
        place /= alike[0]
    return place if place != root else None


def _of_yaml(path: Path, notices: Notices) -> Description:
    content = _content(path, notices)
    names = _names(content, path, notices)
    parts: dict[str, list[str]] = {}
    for key, value in content.items():
        split = split_of(key)
        if split is None or not value:
            continue
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in entries):
            raise DataError(f"{path}: a split must be a folder, a list of folders or a .txt list, got {value!r}")
        if parts.setdefault(split, entries) != entries:
            raise DataError(f"{path}: names the split {split!r} twice, with other places: remove one")
    return Description(path, _root(content, path, notices), names, parts, "kpt_shape" in content)


def _content(path: Path, notices: Notices) -> Mapping[str, Any]:
    text = label_text(path, notices, kind="a data.yaml", limit_bytes=LIMIT_BYTES)
    try:
        node = compose_yaml(text)
    except YamlError as error:
        place = "" if error.line is None else f" at line {error.line}"
        raise DataError(f"{path}: not valid YAML{place}: {error.problem}") from None
    except RecursionError:
        raise DataError(f"{path}: not a YOLO data.yaml: nested too deeply") from None
    content = _plain(node, path) if node is not None else None
    if not isinstance(content, dict) or not content.get("names"):
        raise DataError(f"{path}: not a YOLO data.yaml (needs names, and train or val)")
    return content


def _plain(node: yaml.Node, path: Path, *, names: bool = False) -> Any:
    """Lists, mappings and text as written: for YAML, a class `no` is false, `010` is 8 and `12:30` is 750."""
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        raise DataError(f"{path}: not valid YAML for a dataset at line {node.start_mark.line + 1}: a tag {node.tag}")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, path, names=names) for item in node.value]
    if isinstance(node, yaml.ScalarNode):
        absent = node.tag == "tag:yaml.org,2002:null" and not names
        return None if absent else str(node.value)
    content: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{path}: not a YOLO data.yaml: a key at line {key.start_mark.line + 1} is no word")
        content[key.value] = _plain(value, path, names=names or key.value == "names")
    return content


def _names(content: Mapping[str, Any], path: Path, notices: Notices) -> Classes:
    given = content["names"]
    pairs: list[tuple[str, Any]] = []
    if isinstance(given, list):
        pairs = [(str(number), name) for number, name in enumerate(given)]
    elif isinstance(given, dict):
        pairs = list(given.items())
    if not pairs or not all(key.isdecimal() and len(key) < 10 and isinstance(name, str) for key, name in pairs):
        raise DataError(f"{path}: names must be a list, or a mapping from class numbers to names, got {given!r}")
    classes = numbered_classes([(int(key), name) for key, name in pairs], str(path), notices)
    if "nc" in content and content["nc"] != str(len(pairs)):
        raise DataError(f"{path}: nc is {content['nc']} but there are {len(pairs)} names: correct one of them")
    return classes


def _root(content: Mapping[str, Any], path: Path, notices: Notices) -> Path:
    """The folder that splits are relative to."""
    given = content.get("path")
    if given is None:
        return path.parent
    if not isinstance(given, str):
        raise DataError(f"{path}: path must be a folder, got {given!r}")
    root = Path(os.path.abspath(path.parent / given))
    if not os.path.isdir(root) and "\\" in given:
        root = Path(os.path.abspath(path.parent / given.replace("\\", "/")))
    if os.path.isdir(root):
        if root == Path(root.anchor):
            raise DataError(f"{path}: path {given!r} takes in the whole disk: name the dataset's own folder")
        home = os.path.realpath(path.parent)
        if os.path.commonpath([home, os.path.realpath(root)]) != home:
            notices.add(f"images and labels are read from {root}, as path in {path.name} states")
        return root
    notices.add(f"path {str(given)!r} of {path.name} does not exist: taken as {path.parent}")
    return path.parent


def _of_darknet(path: Path, notices: Notices) -> Description:
    """Darknet's `obj.data`: lines of `key = value`, the paths as seen from where Darknet would be started."""
    settings: dict[str, str] = {}
    for line in label_text(path, notices, kind="a Darknet data file").splitlines():
        key, found, value = line.partition("=")
        if found:
            settings[key.strip().lower()] = value.strip()
    given = settings.get("names")
    if not given:
        raise DataError(f"{path}: not a Darknet data file: it names no file of class names (names = obj.names)")
    beside = path.parent / PurePosixPath(given.replace("\\", "/")).name
    if not beside.is_file():
        raise DataError(f"{path}: its class names are missing: {beside}: copy them there")
    classes = _class_list(beside, notices)
    count = settings.get("classes", "")
    if count.isdecimal() and int(count) != len(classes.label_of):
        raise DataError(
            f"{path}: classes is {count} but {beside.name} has {len(classes.label_of)}: correct one of them"
        )
    parts = {split: [value] for key, value in settings.items() if (split := split_of(key)) and value}
    return Description(path, path.parent, classes, parts or _parts_of(path.parent))


def _class_list(path: Path, notices: Notices) -> Classes:
    lines = label_text(path, notices, kind="a list of class names").rstrip().splitlines()
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: names no class: write one a line")
    return numbered_classes(enumerate(lines), str(path), notices)


def _parts_of(folder: Path) -> dict[str, list[str]]:
    """The parts of a dataset that nothing lists: folders of a split's name, or all of it."""
    by_name = {same(name): name for name in names_in(folder) if (folder / name).is_dir()}
    images = by_name.get("images")
    home = folder / images if images else folder
    parts: dict[str, list[str]] = {}
    for name in names_in(home):
        split = split_of(name) if (home / name).is_dir() else None
        if split:
            parts.setdefault(split, []).append(f"{images}/{name}" if images else name)
    return parts or {"": [images or ""]}


def _has_labels(folder: Path) -> bool:
    """Whether `labels/` holds label files, or one lies beside an image."""
    for home, _, names in _walk(folder):
        texts = {name[:-4] for name in names if name.lower().endswith(".txt") and name not in CLASS_FILES}
        if texts and "labels" in map(same, home.relative_to(folder).parts):
            return True
        if any(os.path.splitext(name)[0] in texts for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES):
            return True
    return False


def _walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`folder` and what may hold images or labels in it, two folders deep."""
    for home, folders, names in os.walk(folder):
        here = Path(home)
        folders[:] = (
            [name for name in folders if not name.startswith(".")] if len(here.relative_to(folder).parts) < 2 else []
        )
        yield here, folders, [name for name in names if not name.startswith(".")]
