"""Where a COCO dataset keeps its JSON and its images: as COCO, Roboflow, CVAT and Label Studio write them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from data.dataset import SPLITS
from data.errors import DataError
from data.formats.references import Roots
from data.formats.repair import Notices
from data.formats.search import files_named, no_such_split, of_split, split_files

_LABEL_FOLDERS = ("annotations", "labels")  # the dataset's own folder is the one above
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio's uploads
_DRIVE = re.compile(r"[A-Za-z]:/")
_DEEPEST = 8


def coco_files(folder: Path, split: str) -> list[Path]:
    """The COCO JSONs of a split in `folder` and in `annotations` inside it, by their usual names.

    Raises:
        NoSuchSplit: there are JSONs of other splits only.

    """
    found = files_named(folder, "annotations.json", "_annotations.coco.json", "result.json")
    for home in (folder, folder / "annotations"):
        instances = {file: file.stem.removeprefix("instances_") for file in sorted(home.glob("instances_*.json"))}
        mine = [file for file, part in instances.items() if part.startswith(SPLITS[split])]
        if instances and not mine and len(instances) > 1 and not found:
            raise no_such_split(folder, split, instances)
        found += mine or (list(instances) if len(instances) == 1 else [])
    return found or of_split(folder, split_files(folder, ".json"), split)


def coco_images(
    images: Mapping[int, Mapping[str, Any]], path: Path, images_dir: Path | None, notices: Notices
) -> dict[int, Path]:
    """Image id -> image file, all relative to the one folder in which the first image is found.

    A `file_name` is taken literally; failing that with its URL codes resolved, and, where it is a URL or
    an absolute path of another machine, by its last parts (Label Studio's `/data/upload/1/1a2b3c4d-name.jpg`
    is found as `1a2b3c4d-name.jpg` and as `name.jpg`).

    Args:
        images: the JSON's image entries by id.
        path: the JSON.
        images_dir: the folder that `file_name` is relative to, where it is none of the usual ones.
        notices: receives a count of the images that were found by the last parts of their name only.

    Raises:
        DataError: images are missing, lead out of the dataset (see `data.formats.references`), or two images
            with different names are found to be the same file.

    """
    homes = _homes(path) if images_dir is None else [Path(images_dir), *_homes(path)]
    roots = Roots(path.parent, homes, images_dir)
    names = {image_id: str(image["file_name"]) for image_id, image in images.items()}
    first = next(iter(names.values()))
    found = [home for home in homes if _find(first, home, [home], roots)]
    if not found:
        # Perhaps only the first one is missing: then its own message helps more than "no folder".
        found = [home for home in homes if any(_find(name, home, [home], roots) for name in names.values())]
    home = found[0] if found else homes[0]
    paths: dict[int, Path] = {}
    missing: list[Path] = []
    name_of: dict[Path, str] = {}
    for image_id, name in names.items():
        file = _find(name, home, [home, *homes], roots)
        if file is None:
            missing.append(_file(home, name))
            continue
        digest = images[image_id].get("content_sha256")
        roots.check(file, f"{path}: image {image_id}", digest if isinstance(digest, str) else None)
        if name_of.setdefault(file, name) != name:
            raise DataError(f"{path}: {name_of[file]} and {name} are both found as {file}: rename one of them")
        if file not in [_file(home, spelling) for spelling in _own_spellings(name)]:
            notices.count("image", "images", "found by the last parts of a URL or absolute path", name)
        paths[image_id] = file
    if missing and notices.every is not None:
        for file in missing:
            notices.note("image-missing", f"{path}: {file} is missing: copy it there, or remove it", str(file))
    elif missing:
        looked = "" if found else f"; looked in {', '.join(map(str, homes))}"
        raise DataError(
            f"{path}: {len(missing)} of {len(names)} images are missing, first: {missing[0]}{looked}: "
            "copy them there, or remove them from the JSON"
        )
    return paths


def _homes(path: Path) -> list[Path]:
    home, part = path.parent, path.stem.removeprefix("instances_")
    homes = [home, home / "images", home.parent / part, home.parent / "images" / part, home.parent / "images"]
    return [*homes, home.parent] if home.name.lower() in _LABEL_FOLDERS else homes


def _find(file_name: str, home: Path, homes: Sequence[Path], roots: Roots) -> Path | None:
    """The image of that name in `home`; a name from another machine is searched for in all of `homes`.

    One inside the dataset before one outside.
    """
    possible = [_file(home, spelling) for spelling in _own_spellings(file_name)]
    possible += [_file(place, spelling) for place in homes for spelling in _foreign_spellings(file_name)]
    there = [file for file in dict.fromkeys(possible) if os.path.exists(file) and not os.path.isdir(file)]
    return next((file for file in there if roots.holds(file)), there[0] if there else None)


def _own_spellings(file_name: str) -> Sequence[str]:
    """Literally, as written on Windows, and without URL codes."""
    text = file_name.replace("\\", "/")
    return tuple(dict.fromkeys((file_name, text, unquote(text))))


def _foreign_spellings(file_name: str) -> Sequence[str]:
    """The last parts of a URL or an absolute path, the longest first; none of other names."""
    text = file_name.replace("\\", "/")
    plain, is_url = unquote(text), "://" in text
    if is_url or text.startswith("/data/"):
        try:
            address = urlsplit(text)
        except ValueError:
            return ()
        # Label Studio's local files: /data/local-files/?d=photos/a.jpg
        plain = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    if not is_url and not plain.startswith("/") and not text.startswith("/") and not _DRIVE.match(plain):
        return ()
    parts = [part for part in PurePosixPath(plain).parts if part not in ("/", "..")][-_DEEPEST:]
    spellings = ["/".join(parts[at:]) for at in range(len(parts))]
    uploaded = _UPLOADED.fullmatch(parts[-1]) if parts else None
    return (*spellings, uploaded[1]) if uploaded else spellings


def _file(home: Path, file_name: str) -> Path:
    if ".." in file_name:  # the system goes up from where a linked folder really lies
        home = Path(os.path.realpath(home))
    return Path(os.path.abspath(home / file_name))
