"""Where a COCO dataset keeps its JSON and its images: as COCO, Roboflow, CVAT and Label Studio write them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.formats.coco_entries import Key
from data.formats.names import Files, names_in, same, split_of
from data.formats.references import Roots
from data.formats.repair import Notices
from data.formats.search import files_named, no_such_split, of_split, split_files

_LABEL_FOLDERS = ("annotations", "labels")  # the dataset's own folder is the one above


def coco_files(folder: Path, split: str) -> list[Path]:
    """The COCO JSONs of a split in `folder` and in `annotations` inside it, by their usual names.

    Raises:
        NoSuchSplit: there are JSONs of other splits only.

    """
    found = files_named(folder, "annotations.json", "_annotations.coco.json", "result.json", "labels.json")
    homes = [folder, *(folder / name for name in names_in(folder) if same(name) == "annotations")]
    for home in homes:
        instances = {file: _subset(file) for file in sorted(home.glob("instances_*.json"))}
        mine = [file for file, part in instances.items() if split_of(part, numbered=True) == split_of(split)]
        if instances and not mine and len(instances) > 1 and not found:
            raise no_such_split(folder, split, instances)
        found += mine or (list(instances) if len(instances) == 1 else [])
    named = {file: part for home in homes for file, part in split_files(home, ".json").items()}
    return found or of_split(folder, named, split)


def unread_subsets(path: Path) -> list[str]:
    """The names of JSONs beside that of a split whose subset is no split: nothing reads them."""
    if not path.stem.startswith("instances_") or split_of(_subset(path), numbered=True) is None:
        return []
    beside = sorted(path.parent.glob("instances_*.json"))
    return [file.name for file in beside if split_of(_subset(file), numbered=True) is None]


def coco_images(
    images: Mapping[Key, Mapping[str, Any]], path: Path, images_dir: Path | None, notices: Notices
) -> dict[Key, Path]:
    """Image id -> image file, all relative to the one folder in which the first image is found.

    Args:
        images: the entries of the JSON.
        path: the JSON.
        images_dir: a folder that the user named.
        notices: receives a count of the images that were found under another spelling of their name.

    Raises:
        DataError: images are missing, lead out of the dataset (see `data.formats.references`), or two entries mean
            one file.

    """
    homes = _homes(path) if images_dir is None else [Path(images_dir), *_homes(path)]
    roots = Roots(path.parent, homes, images_dir)
    files = Files(roots, notices)
    names = {image_id: str(image["file_name"]) for image_id, image in images.items()}
    home = _home_of(names, homes, Files(roots, Notices(every=None)))
    paths: dict[Key, Path] = {}
    missing: list[Path] = []
    first_of: dict[Path, Key] = {}
    for image_id, name in names.items():
        where = f"{path}: image {image_id}"
        try:
            file = files.find(name, list(dict.fromkeys([home or homes[0], *homes])), where)
            if file is None:
                missing.append(Path(os.path.abspath((home or homes[0]) / name)))
                continue
            digest = images[image_id].get("content_sha256")
            roots.check(file, where, digest if isinstance(digest, str) else None)
            if first_of.setdefault(file, image_id) != image_id:
                raise DataError(
                    f"{path}: images {first_of[file]} and {image_id} are both {name}: one file, so the boxes of "
                    "both would lie on it: give each its own file, or merge the entries",
                    kind="image-repeated",
                )
        except DataError as error:
            notices.fault(error, name)
            continue
        paths[image_id] = file
    if missing and notices.every is not None:
        for file in missing:
            notices.note("image-missing", f"{path}: {file} is missing: copy it there, or remove it", str(file))
    elif missing:
        looked = "" if home else f"; looked in {', '.join(map(str, homes))}"
        raise DataError(
            f"{path}: {len(missing)} of {len(names)} images are missing, first: {missing[0]}{looked}: "
            "copy them there, or remove them from the JSON"
        )
    return paths


def _home_of(names: Mapping[Key, str], homes: list[Path], files: Files) -> Path | None:
    """The folder in which the first image is found, or any other where that one alone is missing."""
    for name in names.values():
        for home in homes:
            try:
                if files.find(name, [home], ""):
                    return home
            except DataError:
                continue
    return None


def _subset(file: Path) -> str:
    return file.stem.removeprefix("instances_")


def _homes(path: Path) -> list[Path]:
    home, part = path.parent, _subset(path)
    homes = [
        home,
        home / "images",
        home / "data",
        home.parent / part,
        home.parent / "images" / part,
        home.parent / "images",
    ]
    for above in (home / "images", home.parent, home.parent / "images"):
        homes += [
            above / n
            for n in names_in(above)
            if same(n) == same(part) or _one_split(n, part) and (above / n).is_dir()
        ]
    return [*homes, home.parent] if same(home.name) in _LABEL_FOLDERS else homes


def _one_split(name: str, other: str) -> bool:
    split = split_of(name, numbered=True)
    return split is not None and split == split_of(other, numbered=True)
