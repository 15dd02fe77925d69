"""Names of files and of splits. The one rule for each, for every format.

A file: a label file refers to an image by a name that another system wrote. macOS decomposes umlauts, Windows
writes backslashes and knows no case, a tool writes the folder that it had. So a reference is looked for as it
stands; then for the one file that differs from it only in Unicode form, case, direction of slashes or leading
folders, which a notice reports. Where two files would do, it is an error.

A split: by its usual names, in any case: `Train`, `valid`, `Validation`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from data.errors import DataError
from data.formats.references import Roots
from data.formats.repair import Notices
from data.formats.text import decoded

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # Label Studio's uploads
_DEEPEST = 8


def split_of(name: str, *, numbered: bool = False) -> str | None:
    """Which split a usual name of one means: "train", "val" or "test"; None for any other name.

    Args:
        name: of a folder, a file without suffix, or a key.
        numbered: something that is no letter may follow, as in `train2017` or `val_1`.

    """
    text = same(name)
    if not numbered:
        return _SPLITS.get(text)
    found = re.match("[a-z]+", text)
    return _SPLITS.get(found[0]) if found else None


def names_in(folder: Path) -> list[str]:
    """The names in a folder that are not hidden, sorted; none where there is no such folder.

    Raises:
        DataError: it cannot be read.

    """
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror or error})") from None


def same(name: str) -> str:
    """The form in which two spellings of one name are equal: composed, no case, from whatever bytes a disk has."""
    if name.isascii():
        return name.lower()
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes on the disk that are not UTF-8
        name = decoded(os.fsencode(name))[0] if "\udc7f" < max(name) else name
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class Files:
    """The files that references mean; keeps the listings of the folders that it has looked into.

    Args:
        roots: which files are the dataset's own, for a choice between two of the very same name.
        notices: receives a count of the references that were found under another spelling.

    """

    def __init__(self, roots: Roots, notices: Notices) -> None:
        self._roots, self._notices = roots, notices
        self._listed: dict[Path, dict[str, list[str]]] = {}
        self._meant: dict[Path, tuple[str, bool]] = {}  # file -> the reference to it, and whether it is spelled so

    def find(self, reference: str, homes: Sequence[Path], where: str) -> Path | None:
        """The file that `reference` means, absolute; None where there is none.

        Args:
            reference: as a label file spells it.
            homes: the folders that it may be relative to, the likeliest first.
            where: what refers to it, for messages.

        Raises:
            DataError: two files would do, or two references mean one file.

        """
        exact = self._literally(reference, homes)
        if exact and os.path.isabs(reference) and not self._roots.holds(exact):
            inside = self._otherwise(reference, homes, where)  # one inside the dataset before one outside
            exact = None if inside and self._roots.holds(inside) else exact
        file = exact or self._otherwise(reference, homes, where)
        if file is None:
            return None
        said, was_exact = self._meant.setdefault(file, (reference, exact is not None))
        if said != reference and not (was_exact and exact is not None):
            line = f"{where}: {said} and {reference} are both found as {file}: rename one of them"
            raise DataError(line, kind="image-ambiguous")
        if exact is None:
            rest = "found under another spelling of their name (Unicode form, case, slashes or leading folders)"
            self._notices.count("file", "files", rest, f"{reference}: {file.name}")
        return file

    def like(self, folder: Path, name: str) -> list[Path]:
        """What `folder` holds under `name` or another spelling of it; the name itself first."""
        return [folder / found for found in sorted(self._names(folder).get(same(name), ()), key=lambda f: f != name)]

    def folders_like(self, home: Path, parts: Sequence[str]) -> list[Path]:
        """The folders below `home` whose path is `parts` or another spelling of it."""
        found = [home]
        for part in parts:
            found = [file for folder in found for file in self.like(folder, part)]
        return [Path(os.path.abspath(file)) for file in found if os.path.isdir(file)] if parts else []

    def _literally(self, reference: str, homes: Sequence[Path]) -> Path | None:
        there = [file for home in homes if _is_file(file := _join(home, reference))]
        return next((file for file in there if self._roots.holds(file)), there[0] if there else None)

    def _otherwise(self, reference: str, homes: Sequence[Path], where: str) -> Path | None:
        slashed = reference.replace("\\", "/")
        for spelling in dict.fromkeys((slashed, unquote(slashed))):
            found = self._literally(spelling, homes)
            if found:
                return found
        for spelling in _spellings(slashed):
            exact = [file for home in homes if _is_file(file := _join(home, spelling))]
            exact = [file for file in exact if self._roots.holds(file)] or exact
            alike = exact or [file for home in homes for file in self._alike(home, PurePosixPath(spelling).parts)]
            files = list({os.path.realpath(file): file for file in alike}.values())
            if len(files) > 1:
                line = f"{where}: {reference} may be {files[0]} or {files[1]}: rename one of them"
                raise DataError(line, kind="image-ambiguous")
            if files:
                return files[0]
        return None

    def _alike(self, home: Path, parts: Sequence[str]) -> list[Path]:
        found = [home]
        for part in parts:
            found = [file for folder in found for file in self.like(folder, part)]
        return [Path(os.path.abspath(file)) for file in found if _is_file(file)]

    def _names(self, folder: Path) -> Mapping[str, Sequence[str]]:
        if folder not in self._listed:
            listed = self._listed[folder] = {}
            for name in names_in(folder):
                listed.setdefault(same(name), []).append(name)
        return self._listed[folder]


def _spellings(reference: str) -> Iterator[str]:
    """A reference with `/` without more and more of its leading folders, and without what a URL adds."""
    plain = unquote(reference)
    if "://" in reference or reference.startswith("/data/"):
        try:
            address = urlsplit(reference)
        except ValueError:
            return
        # Label Studio's local files: /data/local-files/?d=photos/a.jpg
        plain = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    for text in dict.fromkeys((reference, plain)) if plain == unquote(reference) else (plain,):
        parts = [part for part in PurePosixPath(text).parts if part not in ("/", "//", "..")][-_DEEPEST:]
        yield from ("/".join(parts[at:]) for at in range(len(parts)))
    uploaded = _UPLOADED.fullmatch(parts[-1]) if parts else None
    if uploaded:
        yield uploaded[1]


def _join(home: Path, name: str) -> Path:
    if ".." in name:  # the system goes up from where a linked folder really lies
        home = Path(os.path.realpath(home))
    return Path(os.path.abspath(home / name))


def _is_file(file: Path) -> bool:
    return os.path.exists(file) and not os.path.isdir(file)


def pairs(images: Collection[str], labels: Collection[str], where: str) -> dict[str, str]:
    """Name of an image -> the name of its labels, both paths without suffix; those without a partner are left out.

    Equal names first; then those that differ in Unicode form or case only, where each has one candidate.

    Raises:
        DataError: two of them would do.

    """
    known = set(labels)
    found = {name: name for name in images if name in known}
    waiting: dict[str, list[str]] = {}
    for name in known - set(found):
        waiting.setdefault(same(name), []).append(name)
    if not waiting:
        return found
    taken: dict[str, str] = {}
    for name in images:
        if name in found or same(name) not in waiting:
            continue
        candidates = waiting[same(name)]
        other = taken.setdefault(same(name), name)
        if len(candidates) > 1 or other != name:
            two = f"the images {other} and {name}" if other != name else f"the labels {' and '.join(candidates[:2])}"
            raise DataError(f"{where}: {two} differ in the spelling of their name only: rename one of them")
        found[name] = candidates[0]
    return found
