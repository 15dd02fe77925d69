r"""Which images belong together, and so must stay on one side of a split.

A group key is an attribute of the images (`field`, `session`, ...) or is derived from their files:

- `photo`: the photo that a file was cut from or copied from, by its name;
- `video`: the recording that a frame was taken from, by its name;
- `folder`: the folder, without the names of splits;
- `date`: the day, from EXIF DateTimeOriginal or else from a date in the path;
- `re:PATTERN`: what the one group of a regular expression finds in the path, such as `re:_(17kv\d+)r`.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePath

from PIL import Image

from data.dataset import LabelledImage
from data.errors import DataError

DERIVED = ("photo", "video", "folder", "date")
"""Keys that need no attribute."""

_BEST = ("field", "session", "video", "photo", "date", "folder")
_EXIF_IFD, _EXIF_TAKEN, _EXIF_CHANGED = 0x8769, 0x9003, 0x0132
_DATE = re.compile(r"(?<!\d)(20\d\d|19\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")

# Roboflow: the original's name and suffix, then a hash for each augmented copy.
_ROBOFLOW = re.compile(r"\.rf\.[0-9A-Za-z]{8,}$")
_OLD_SUFFIX = re.compile(r"_(jpe?g|png|bmp|tiff?|webp|heic)$", re.IGNORECASE)
_NAMED_TILE = re.compile(
    r"[_-]+(?:(?:tile|crop|patch|slice)[_-]?\d+(?:[_-]\d+)?"  # photo_tile_3, photo-crop12
    r"|[rxy]\d+[_-]?[cxy]\d+"  # photo_r1c2, photo_x0_y512
    r"|\d+_\d+_\d+_\d+)$",  # photo_0_0_640_640
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^(?P<photo>.*\d.*)[_-](?P<number>\d{1,3})$")
_CAMERA_NAME = re.compile(r"(?:^|[_-])[A-Za-z]{2,4}_?\d{4,}(?:[_-]|$)")  # DSC_1140, IMG0012, DJI_0034
_CAMERA_PREFIX = re.compile(r"^(dsc[fn]?|img|dji|pict?|gopr|gh\d\d|p|imag|image|photo|mvi|coco_\w+)$", re.IGNORECASE)
_FRAME = re.compile(r"^(?P<video>.*?[A-Za-z].*?)[_.-]*(?P<word>frame|frm|f)?[_.-]*(?P<number>\d+)$", re.IGNORECASE)
_SPLIT_WORDS = frozenset(
    "train training val valid validation test testing dev images image imgs img jpegimages data".split()
)
_FOLD = re.compile(r"fold_?\d+", re.IGNORECASE)


def group_images(images: Sequence[LabelledImage], key: str) -> list[str]:
    """The group of each image, "" where the key does not apply to it.

    Names are judged together: give the images of all splits at once.

    Args:
        images: of one dataset, or of all that are compared.
        key: an attribute, one of `DERIVED`, or `re:PATTERN`.

    Raises:
        DataError: no image has such an attribute, or the pattern cannot be used.

    """
    if key.startswith("re:"):
        return _by_pattern([image.path for image in images], key.removeprefix("re:"))
    if any(key in image.attributes for image in images):
        return [image.attributes.get(key, "") for image in images]
    if key not in DERIVED:
        own = sorted({name for image in images for name in image.attributes})
        have = f"attributes {', '.join(own)}" if own else "no attributes"
        raise DataError(
            f"no image has {key!r} to group by: they have {have}; from the files: {', '.join(DERIVED)} or re:PATTERN"
        )
    paths = [image.path for image in images]
    return {"photo": photos, "video": videos, "folder": folders, "date": _dates}[key](paths)


def best_key(images: Sequence[LabelledImage], groups_wanted: int = 2) -> str:
    """The first of field, session, video, photo, date and folder that puts images together.

    A key counts where it applies to every image, makes at least `groups_wanted` groups, and fewer
    than there are images. Where none does, "photo": every image is a group of its own.
    """
    own = {name for image in images for name in image.attributes}
    for key in _BEST:
        if key in own or key in DERIVED:
            groups = group_images(images, key)
            if all(groups) and groups_wanted <= len(set(groups)) < len(images):
                return key
    return "photo"


def photos(paths: Sequence[Path]) -> list[str]:
    """The photo that each file shows a part or a copy of.

    Roboflow's `.rf.<hash>` goes, with the `_jpg` before it; and so does a tile number. A name such as
    `DSC_1140_a_11` ends with one where a tail like `_tile11`, `_r1c2` or `_0_0_640_640` marks it, or else where a
    bare number of up to three digits follows a name that has a number of its own already, and either that is a
    camera's (`DSC_1140`, unlike a mere `001`), or the same few numbers come again after many such names.
    So `000001`, `DSC_1140`, `agri_0_1009` and `001_image` are photos of their own. Parts and copies of one name
    in different folders are of one photo only where the folders are those of splits. Whole photos of one name in
    different folders are different ones: every renderer and every recorder counts from 0 again, and if they are
    the same after all, a comparison of their pixels shows it.
    """
    names = [_OLD_SUFFIX.sub("", _ROBOFLOW.sub("", path.stem)) for path in paths]
    whole = [name == path.stem for name, path in zip(names, paths, strict=True)]
    bare = [_NUMBERED.match(name) for name in names]
    prefixes = {m["photo"] for m in bare if m}
    numbers = {m["number"] for m in bare if m}
    # Tiles: 0 to 14 after each of 78 photos. A counter: 0 to 500 after each of 2 fields.
    restarts = len(numbers) > 1 and 2 * len(numbers) <= len(prefixes)
    stripped = []
    for index, (name, numbered) in enumerate(zip(names, bare, strict=True)):
        uncut = name
        if _NAMED_TILE.search(name) and (rest := _NAMED_TILE.sub("", name)):
            name = rest
        elif numbered and not _DATE.search(numbered["photo"][-10:]):
            if restarts or _CAMERA_NAME.search(numbered["photo"]):
                name = numbered["photo"]
        whole[index] &= name == uncut
        stripped.append(name)
    found = [f"{folder}/{name}" if folder else name for folder, name in zip(folders(paths), stripped, strict=True)]
    of_parts = {photo for photo, is_whole in zip(found, whole, strict=True) if not is_whole}
    homes: defaultdict[str, set[Path]] = defaultdict(set)
    for photo, path in zip(found, paths, strict=True):
        homes[photo].add(path.parent)
    return [
        f"{path.parent.as_posix()}/{path.stem}" if photo not in of_parts and len(homes[photo]) > 1 else photo
        for photo, path in zip(found, paths, strict=True)
    ]


def videos(paths: Sequence[Path]) -> list[str]:
    """The recording of each frame, "" where a name is no frame's.

    A frame ends with a number after `frame`, or with a counter of three or more digits of one width that runs
    after a name of its own (`drive_a_000123`). A camera's counter (`DSC_1140`) makes no recording.
    """
    matches = [_FRAME.match(_OLD_SUFFIX.sub("", _ROBOFLOW.sub("", path.stem))) for path in paths]
    widths: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for m in matches:
        if m:
            widths[m["video"]][len(m["number"])] += 1
    found = []
    for folder, m in zip(folders(paths), matches, strict=True):
        video = ""
        if m and not _CAMERA_PREFIX.match(m["video"]):
            counter = len(widths[m["video"]]) == 1 and len(m["number"]) >= 3 and widths[m["video"]].total() > 1
            if m["word"] in ("frame", "frm") or counter:
                video = f"{folder}/{m['video']}" if folder else m["video"]
        found.append(video)
    return found


def folders(paths: Sequence[Path]) -> list[str]:
    """Each image's folder below the one that they all share, without names of splits; "" for that one itself."""
    if not paths:
        return []
    homes = [PurePath(os.path.abspath(path)).parent for path in paths]
    shared = len(PurePath(os.path.commonpath([str(home) for home in set(homes)])).parts)
    cache = {home: "/".join(filter(None, map(_without_split, home.parts[shared:]))) for home in set(homes)}
    return [cache[home] for home in homes]


def _without_split(folder: str) -> str:
    words = [w for w in re.split(r"[ _.-]+", _FOLD.sub("", folder)) if w.lower() not in _SPLIT_WORDS]
    return "_".join(filter(None, words))


def _dates(paths: Sequence[Path]) -> list[str]:
    return [_date(path) for path in paths]


def _date(path: Path) -> str:
    """The day as 2024-05-31, "" where it is unknown."""
    taken = ""
    try:
        with Image.open(path) as header:
            exif = header.getexif()
            taken = str(exif.get_ifd(_EXIF_IFD).get(_EXIF_TAKEN) or exif.get(_EXIF_CHANGED) or "")
    except Exception:  # Pillow raises many kinds on damaged files; reading images is another's task
        pass
    day = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)", taken)
    if day and day[1] > "1900":
        return "-".join(day.groups())
    in_path = list(_DATE.finditer(path.as_posix()))
    return f"{in_path[-1][1]}-{in_path[-1][3]}-{in_path[-1][4]}" if in_path else ""


def _by_pattern(paths: Sequence[Path], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"re:{pattern}: not a regular expression ({error})") from None
    if compiled.groups != 1:
        raise DataError(f"re:{pattern}: needs one group in round brackets, such as re:_(block\\d+)_")
    found = [m[1] or "" if (m := compiled.search(path.as_posix())) else "" for path in paths]
    if paths and not any(found):
        raise DataError(f"re:{pattern}: found in no path, such as {paths[0]}")
    return found
