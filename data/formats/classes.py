"""Names of classes. The one rule, for every format.

In composed Unicode (NFC), a run of white space is one space, and there is none at the ends: `weed` and `weed ` are
one class. Names that differ in case only stay apart, and `swath data check` points them out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from data.errors import DataError
from data.formats.repair import Notices

_INVISIBLE = str.maketrans(dict.fromkeys("\ufeff\u200b\u2060", " "))


@dataclass(frozen=True)
class Classes:
    """The classes of a label file that numbers them.

    Attributes:
        names: by label, in the order of their numbers.
        ids: (C,) the number of each, the first where several mean the same.
        label_of: number -> label.

    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    label_of: Mapping[int, int]


def class_name(text: str) -> str:
    """A class's name as everybody means it: composed, white space single, and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def numbered_classes(given: Iterable[tuple[int, str]], where: str, notices: Notices) -> Classes:
    """Classes from their numbers and names; names that differ in white space only are one class, which is counted.

    Raises:
        DataError: a name is empty, or stands there twice.

    """
    first: dict[str, tuple[int, str]] = {}  # name -> its number and spelling
    label_of: dict[int, int] = {}
    for class_id, text in sorted(given):
        name = class_name(text)
        if not name:
            raise DataError(f"{where}: class {class_id} has an empty name: name it")
        other = first.setdefault(name, (class_id, text))
        if other[0] != class_id:
            if other[1] == text:
                raise DataError(f"{where}: class {class_id} {name!r} occurs twice: merge or rename it")
            rest = "spelled with other white space: taken as one class"
            notices.count("class name", "class names", rest, f"{text!r}: {name!r}")
        label_of[class_id] = list(first).index(name)
    return Classes(tuple(first), tuple(class_id for class_id, _ in first.values()), label_of)


def listed_classes(lines: Sequence[str], where: str) -> tuple[str, ...]:
    """Classes from a list, one a line, in its order.

    Raises:
        DataError: there is none, or one stands there twice.

    """
    spelled: dict[str, set[str]] = {}
    for line in lines:
        name = class_name(line)
        if name and line in spelled.setdefault(name, set()):
            raise DataError(f"{where}: names a class twice ({name}): correct it")
        if name:
            spelled[name].add(line)
    if not spelled:
        raise DataError(f"{where}: names no class: correct it")
    return tuple(spelled)


def similar_classes(names: Collection[str]) -> list[tuple[str, ...]]:
    """Classes whose names differ in case, spaces or punctuation only: probably one, typed differently."""
    alike: dict[str, list[str]] = {}
    for name in names:
        letters = "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if c.isalnum())
        alike.setdefault(letters or name, []).append(name)
    return [tuple(some) for some in alike.values() if len(some) > 1]
