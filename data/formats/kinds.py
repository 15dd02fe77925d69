"""The dataset formats that there are: a new one is a file of its own and an entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from data.formats import boxes_csv, coco, masks, voc, yolo
from data.formats.format import Format

KINDS: tuple[Format, ...] = (coco.KIND, yolo.KIND, voc.KIND, boxes_csv.KIND, masks.KIND)
"""Every format, in the order in which help and messages name them."""

AUTO = "auto"
"""Instead of a format's name: recognise it."""

FORMATS: tuple[str, ...] = tuple(kind.name for kind in KINDS)
WRITABLE: tuple[str, ...] = tuple(kind.name for kind in KINDS if kind.writes is not None)
READABLE: tuple[str, ...] = (AUTO, *FORMATS)

if TYPE_CHECKING:  # a type checker wants literals spelled out, which would be a second list
    FormatName: TypeAlias = str
    ReadableName: TypeAlias = str
else:
    FormatName = Literal[FORMATS]
    ReadableName = Literal[READABLE]
"""For pydantic models: the name of a format; the same, or "auto"."""
