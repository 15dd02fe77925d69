"""A public dataset, by name: downloaded, verified, unpacked, with a note of its source and licence."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from data.dataset import Dataset
from data.download.registry import PublicSet
from data.download.transfer import Options, Watcher, download, remove_part
from data.download.unpack import ArchiveError, Limits, unpack
from data.errors import DataError
from data.files import open_regular, read_text, whole_folder, write_whole
from data.formats import load_parts

SOURCE = "source.json"
"""In the folder of a fetched dataset: where it came from, and under which licence."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """A dataset in its folder.

    Attributes:
        folder: where it is.
        source: the content of its source.json: address, SHA-256, which checksums were compared, licence, citation.
        new: False: it was there already.

    """

    folder: Path
    source: Mapping[str, Any]
    new: bool


def fetch(
    wanted: PublicSet,
    folder: Path,
    watcher: Watcher,
    *,
    mirror: str | None = None,
    limits: Limits | None = None,
    wait_s: float = 1.0,
) -> Fetched:
    """Put a public dataset into a folder, whole or not at all; do nothing where it is there already.

    The archive is kept as `<folder>.part` while it is downloaded, and removed once it is unpacked. A lost connection,
    a full disk and Ctrl-C leave it for the next call to continue; an archive that is wrong or broken is removed.

    Args:
        wanted: of the registry.
        folder: new, or empty, or where an earlier call put it.
        watcher: receives progress and notes.
        mirror: where archives lie under the registry's `file` names: a http(s) address, or a file:// folder, whose
            archive is read where it lies and never removed.
        limits: how much the archive may become.
        wait_s: see `data.download.transfer.Options`.

    Raises:
        DataError: it cannot be had, is another file than expected, or the folder holds something else.

    """
    folder = Path(os.path.abspath(folder))
    if (source := _there(wanted, folder)) is not None:
        return Fetched(folder, source, new=False)
    url = wanted.url if mirror is None else f"{mirror.rstrip('/')}/{quote(wanted.file)}"
    local = _local(url)
    archive = local or folder.with_name(f"{folder.name}.part")
    try:
        if local is None:
            verifiable = wanted.sha256 is not None or wanted.md5 is not None
            download(url, archive, watcher, Options(mirror is not None, verifiable, wanted.size_bytes, wait_s=wait_s))
        source = _verified(wanted, url, archive, watcher)
        with whole_folder(folder) as staging:
            unpack(archive, staging, progress=partial(watcher.progress, "unpacking"), limits=limits)
            if os.path.lexists(staging / SOURCE):
                raise ArchiveError(f"{archive}: holds a {SOURCE} of its own: unpack it by hand")
            write_whole(staging / SOURCE, json.dumps(source, ensure_ascii=False, indent=1) + "\n")
    except ArchiveError:
        if local is None:
            remove_part(archive)  # continuing a wrong file would end here every time
        raise
    except KeyboardInterrupt:
        if local is None and archive.exists():
            watcher.note(f"{archive} keeps {archive.stat().st_size:,} bytes: the same command continues from there")
        raise
    if local is None:
        remove_part(archive)
    return Fetched(folder, source, new=True)


def read_fetched(wanted: PublicSet, folder: Path) -> dict[str, Dataset]:
    """Every part of a fetched dataset, by its path and split; nothing where Swath cannot read its format.

    Raises:
        DataError: it differs from the registry; see `data.formats.load_parts`.

    """
    found: dict[str, Dataset] = {}
    for inner in wanted.datasets if wanted.format is not None else ():
        parts = load_parts(folder / inner, format=wanted.format or "auto")
        for split, part in parts.items():
            names = [] if inner == "." else [inner]
            found[" ".join([*names, *([split] if len(parts) > 1 else [])]) or "all"] = part
    return found


def _there(wanted: PublicSet, folder: Path) -> Mapping[str, Any] | None:
    """The source.json of an earlier call; None where the folder is free.

    Raises:
        DataError: the folder holds something else.

    """
    if not os.path.lexists(folder) or (folder.is_dir() and not os.listdir(folder)):
        return None
    try:
        source = json.loads(read_text(folder / SOURCE, kind=f"a {SOURCE}"))
        same = source["name"] == wanted.name and source["url"] == wanted.url
        if same and wanted.sha256 in (None, source["sha256"]):
            return dict(source)
    except (DataError, ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"{folder}: holds something else than this {wanted.name}: name another folder (--out), or remove it"
    )


def _local(url: str) -> Path | None:
    """The archive that a file:// address names.

    Raises:
        DataError: it is not there.

    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise DataError(f"{url}: names another machine: write file:///folder, with three slashes")
    path = Path(url2pathname(parts.path))
    if not path.is_file():
        raise DataError(f"{path}: no such archive at the mirror: put it there under this name")
    return path


def _verified(wanted: PublicSet, url: str, archive: Path, watcher: Watcher) -> dict[str, Any]:
    """What source.json will hold, the archive's checksums compared with the published ones."""
    found = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    done, total = 0, archive.stat().st_size
    with open_regular(archive) as file:
        while chunk := file.read(_CHUNK_BYTES):
            for digest in found.values():
                digest.update(chunk)
            done += len(chunk)
            watcher.bytes_progress("comparing", done, total)
    verified = []
    for kind, expected in (("sha256", wanted.sha256), ("md5", wanted.md5)):
        if expected is not None and found[kind].hexdigest() != expected:
            raise ArchiveError(
                f"{archive}: is not the archive of {wanted.name}: its {kind.upper()} is {found[kind].hexdigest()}, "
                f"expected {expected}; a file fetched is removed: try again, or another mirror"
            )
        verified += [kind] if expected is not None else []
    return {
        "schema": 1,
        "name": wanted.name,
        "title": wanted.title,
        "url": wanted.url,
        "fetched_from": url,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "sha256": found["sha256"].hexdigest(),
        "size_bytes": total,
        "verified": verified,  # the kinds of checksums that were compared; none where none is published
        "licence": wanted.licence,
        "citation": wanted.citation,
        "homepage": wanted.homepage,
        "note": wanted.note,
    }
