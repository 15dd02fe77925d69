"""Text of label files in the encodings that tools write: UTF-8, UTF-16, and what an older Windows takes for text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from data.errors import DataError
from data.files import TEXT_LIMIT_BYTES, read_bytes
from data.formats.repair import Notices

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BINARY = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f]")
_HIGH = re.compile(rb"[\x80-\xff]+")
_LATIN = re.compile("[A-Za-z]")
_SIGNS = frozenset("°²³µ×·…–—‘’“”€£§©®ªº¿¡«»¼½¾")


def label_text(path: Path, notices: Notices, *, kind: str, limit_bytes: int = TEXT_LIMIT_BYTES) -> str:
    """The text of a label file, line ends as they stand, a byte-order mark left out.

    UTF-8 is certain, UTF-16 has a mark. Anything else is taken as GB 2312 or Windows-1252, whichever gives text,
    and counted in `notices`.

    Args:
        path: a regular file.
        notices: receives the count.
        kind: what it should be, for messages: "a COCO JSON".
        limit_bytes: a larger file is refused.

    Raises:
        DataError: it cannot be read, or is no text.

    """
    raw = read_bytes(path, kind=kind, limit_bytes=limit_bytes)
    try:
        text, encoding = decoded(raw)
    except ValueError:
        raise DataError(f"{path}: is not UTF-8 text, so not {kind}") from None
    if encoding != "utf-8":
        rest = f"not in UTF-8: read as {encoding.upper()}; save as UTF-8 if names look wrong"
        notices.count("label file", "label files", rest, path.name)
    return text


def decoded(raw: bytes) -> tuple[str, str]:
    """The text of some bytes, and its encoding.

    Raises:
        ValueError: they are no text.

    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding), encoding
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        pass
    latin = raw.decode("cp1252", "replace")
    if "\0" in latin or len(_BINARY.findall(latin)) * 50 > len(latin):
        raise ValueError("no text")
    if not _is_latin(raw):
        for encoding in ("gb2312", "gb18030"):
            try:
                return raw.decode(encoding), encoding
            except UnicodeDecodeError:
                continue
    return (latin, "windows-1252") if "\ufffd" not in latin else (raw.decode("latin-1"), "latin-1")


def _is_latin(raw: bytes) -> bool:
    """Whether bytes above 127 are letters with accents: beside ASCII letters, and few in a row.

    In GB 2312 they come in pairs, most of them signs rather than letters in Windows-1252.
    """
    for run in _HIGH.finditer(raw):
        text = run[0].decode("cp1252", "replace")
        beside = raw[max(0, run.start() - 1) : run.start()] + raw[run.end() : run.end() + 1]
        if not all(c.isalpha() or c in _SIGNS for c in text):
            return False
        if len(text) % 2 == 0 and not _LATIN.search(beside.decode("latin-1")):
            return False
    return True
