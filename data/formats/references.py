"""Which files a dataset may refer to. The one rule, for every format.

A dataset often comes from strangers: a `file_name` of `../../home/me/x.png`, an absolute path in a list or a
symbolic link in an archive would make Swath read, show and copy images that were not meant to be shared.
So a reference, links followed, must lead

1. into one of the dataset's own folders: the folder of the label file, or the one above a folder
   `annotations`; for YOLO also the folder that `path` in the `data.yaml` names, which a notice reports; or
2. into the folder that the user names: `images_dir`, `--images-dir`, `data.images_dir` in a recipe; or
3. anywhere else to an image whose digest is given beside the reference. Whoever wrote it has had that very
   image, so reading it gives nothing away. This is how splits and converted datasets refer to their
   originals: `content_sha256` of an image in a COCO JSON, `references.json` beside other formats.

Anything else is refused with an error. What is referred to is a regular file: pipes and devices are
refused wherever they lie.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.decoding.refusal import FOREIGN_SUFFIXES
from data.errors import DataError
from data.files import json_text, open_regular, read_text
from data.formats.repair import Notices
from data.images import IMAGE_SUFFIXES

REFERENCES = "references.json"
"""Beside a dataset that Swath wrote: path of each image that lies elsewhere -> its digest."""

_DIGEST_BYTES = 1 << 16


class Roots:
    """The folders a dataset's files may lie in, and the digests of images that lie elsewhere.

    Args:
        home: the dataset's folder; its `references.json` is read where there is one.
        more: further folders of the dataset.
        images_dir: a folder that the user named.

    Raises:
        DataError: `references.json` is faulty.

    """

    def __init__(self, home: Path, more: Iterable[Path] = (), images_dir: Path | None = None) -> None:
        self.home = Path(os.path.abspath(home))
        named = [] if images_dir is None else [images_dir]
        self._folders = tuple(dict.fromkeys(os.path.realpath(folder) for folder in (home, *more, *named)))
        self._real_folders: dict[str, str] = {}
        self._digests = _digests(self.home / REFERENCES)
        self.foreign: list[Path] = []
        """Images of a kind that is not read, in the folders of `images_in`, unless one that is lies beside them."""

    def digest(self, reference: str) -> str | None:
        """The digest in `references.json` for a reference as the labels spell it; None where there is none."""
        return self._digests.get(reference)

    def holds(self, file: Path) -> bool:
        """Whether `file`, links followed, lies in one of the folders."""
        real = self._real(file)
        return any(real == folder or real.startswith(os.path.join(folder, "")) for folder in self._folders)

    def _real(self, file: Path) -> str:
        # Thousands of images share a folder: following its links once is enough.
        folder = os.path.dirname(os.path.abspath(file))
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], os.path.basename(file))
        return os.path.realpath(real) if os.path.islink(real) else real

    def check(self, file: Path, where: str, digest: str | None = None) -> None:
        """Refuse a file that the dataset may not refer to.

        Args:
            file: an existing file.
            where: what refers to it, for the message.
            digest: given beside the reference, see `content_sha256`.

        Raises:
            DataError: it leads out of the dataset without a digest, or to an image with another one.

        """
        if self.holds(file):
            return
        digest = digest or self._digests.get(Path(os.path.relpath(os.path.abspath(file), self.home)).as_posix())
        target = os.path.realpath(file)
        if digest is None:
            folder = target if os.path.isdir(target) else os.path.dirname(target)
            raise DataError(
                f"{where}: {file} leads out of the dataset's folder, to {target}: refused. If you trust it, "
                f"name the folder of the images: --images-dir {folder} (data.images_dir in a recipe)"
            )
        if content_sha256(file) != digest:
            raise DataError(
                f"{where}: {target} is not the image that was meant when this was written (another digest): "
                "write the dataset again"
            )

    def images_in(self, folder: Path) -> list[Path]:
        """The image files below `folder`, sorted; names that begin with a dot are left out.

        Raises:
            DataError: a folder leads out of the dataset, or is reached twice through links.

        """
        files: list[Path] = []
        seen: set[str] = set()
        for home, folders, names in os.walk(folder, followlinks=True, onerror=_unlistable):
            real = os.path.realpath(home)
            if real in seen:
                raise DataError(f"{home}: a link to a folder that is read already ({real}): remove the link")
            seen.add(real)
            if os.path.islink(home) or home == str(folder):
                self.check(Path(home), str(folder))
            folders.sort()
            files += (Path(home, name) for name in names if not name.startswith("."))
        images = sorted(file for file in files if file.suffix.lower() in IMAGE_SUFFIXES)
        known = {file.with_suffix("") for file in images}
        others = (file for file in files if file.suffix.lower() in FOREIGN_SUFFIXES)
        self.foreign += sorted(file for file in others if file.with_suffix("") not in known)
        return images


def count_foreign(roots: Roots, notices: Notices) -> None:
    """Count the images of a kind that is not read, such as HEIC: they must not be passed over in silence."""
    files = list(dict.fromkeys(roots.foreign))
    if files:
        kinds = ", ".join(sorted({file.suffix.lower().lstrip(".").upper() for file in files}))
        rest = f"of a kind that is not read ({kinds}): left out; convert to JPEG or PNG"
        notices.count("file", "files", rest, files[0].name, len(files), kind="image-foreign")


def images_by_stem(folder: Path, roots: Roots) -> dict[Path, Path]:
    """The images below `folder`, by their path relative to it without the suffix.

    Raises:
        DataError: two images share it, so that their labels are ambiguous.

    """
    found: dict[Path, Path] = {}
    for file in roots.images_in(folder):
        other = found.setdefault(file.relative_to(folder).with_suffix(""), file)
        if other != file:
            raise DataError(f"{other} and {file.name}: two images for the same labels: rename or remove one of them")
    return found


def _unlistable(error: OSError) -> None:
    raise DataError(f"{error.filename}: the folder cannot be read ({error.strerror or error})")


def content_sha256(file: Path) -> str | None:
    """SHA-256 of a file's length (8 bytes, little endian) and its first 64 KiB, as 64 hex digits.

    None where it cannot be read. A photo's first 64 KiB hold its noise and cannot be guessed.
    """
    try:
        with open_regular(file) as content:
            length = os.fstat(content.fileno()).st_size
            return hashlib.sha256(length.to_bytes(8, "little") + content.read(_DIGEST_BYTES)).hexdigest()
    except (OSError, ValueError, DataError):
        return None


def leads_out(file: Path, home: Path) -> bool:
    """Whether `file`, links followed, lies outside the folder `home`."""
    return not os.path.realpath(file).startswith(os.path.join(os.path.realpath(home), ""))


def reference(file: Path, home: Path) -> str:
    """How labels in the folder `home` (its real path) refer to an image: relative, with `/`."""
    # The file's folder is resolved, the file is not: `..` must be right when the system follows it,
    # and a link to an image keeps its own name.
    real = os.path.join(os.path.realpath(file.parent), file.name)
    try:
        return Path(os.path.relpath(real, home)).as_posix()
    except ValueError:  # another drive on Windows
        return Path(real).as_posix()


def references_text(digests: Mapping[str, str]) -> str:
    """What `references.json` holds, from relative path -> digest."""
    return json_text({"references": dict(digests)})


def _digests(file: Path) -> Mapping[str, str]:
    if not os.path.isfile(file):
        return {}
    try:
        given = json.loads(read_text(file, kind="Swath's list of references"))["references"]
        if not all(isinstance(text, str) for pair in given.items() for text in pair):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(f"{file}: not Swath's list of references: remove it, or write the dataset again") from None
    return dict(given)
