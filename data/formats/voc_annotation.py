"""One XML of a Pascal VOC dataset: its objects, the image's name and size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from data.errors import DataError
from data.files import read_bytes
from data.formats.classes import class_name
from data.formats.orientation import turned_bounds
from data.formats.repair import Notices
from data.formats.text import decoded
from data.formats.voc_writer import CORNERS

_LIMIT_BYTES = 16 << 20
_OWN = re.compile(r"VOC ?20\d\d", re.IGNORECASE)  # the challenge's files
_DECLARATION = re.compile(r"\s*<\?xml[^>]*?(?:encoding\s*=\s*[\"']([\w.:-]+)[\"'][^>]*)?\?>")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


@dataclass(frozen=True)
class VocLabels:
    """The content of one XML.

    Attributes:
        file_name: of its image, "" where it names none.
        names: the class of each object.
        boxes_xyxy: its box, absolute pixels of the image as the labelling tool showed it.
        difficult, truncated: its marks.
        given_hw: the image's size, (None, None) where it states none.
        attributes: of the image.

    """

    file_name: str = ""
    names: Sequence[str] = ()
    boxes_xyxy: Sequence[tuple[float, float, float, float]] = ()
    difficult: Sequence[bool] = ()
    truncated: Sequence[bool] = ()
    given_hw: tuple[int | None, int | None] = (None, None)
    attributes: Mapping[str, str] | None = None


def read_annotation(xml: Path, notices: Notices) -> VocLabels:
    """Read an XML.

    Raises:
        DataError: it is no VOC annotation, or an object is faulty.

    """
    root = _root(xml, notices)
    first = 1.0 if _OWN.search(root.findtext("source/database") or "") else 0.0
    names, boxes, difficult, truncated = [], [], [], []
    for number, item in enumerate(root.findall("object"), start=1):
        where = f"{xml}: object {number}"
        name = class_name(item.findtext("name") or "")
        if not name:
            raise DataError(f"{where} has no name")
        names.append(name)
        boxes.append(_box(item, first, where, notices))
        difficult.append(_flag(item, "difficult", where, notices))
        truncated.append(_flag(item, "truncated", where, notices))
    size = [root.findtext(f"size/{tag}") for tag in ("height", "width")]
    height, width = (
        None if text is None or not text.strip() else int(_number(text, f"{xml}: size")) for text in size
    )
    # Some tools write 0 x 0 where they do not know.
    given_hw = (height, width) if height and width else (None, None)
    file_name = (root.findtext("filename") or "").strip()
    return VocLabels(file_name, names, boxes, difficult, truncated, given_hw, _attributes(root))


def annotated_classes(xml: Path) -> set[str]:
    """The classes of an XML's objects; none where it cannot be read."""
    try:
        root = _root(xml, Notices(every=None))
    except DataError:
        return set()
    return {class_name(item.findtext("name") or "") for item in root.findall("object")} - {""}


def _root(xml: Path, notices: Notices) -> Any:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    raw = read_bytes(xml, kind="a VOC annotation", limit_bytes=_LIMIT_BYTES)
    try:
        try:
            root = fromstring(raw, forbid_dtd=True)
        except (ParseError, ValueError, LookupError) as error:
            if isinstance(error, DefusedXmlException):
                raise
            root = _in_another_encoding(raw, xml, error, notices)
    except DefusedXmlException:
        raise DataError(f"{xml}: holds a document type or entities, which no VOC annotation needs: refused") from None
    if root.tag == "annotations" and root.find("image") is not None:
        raise DataError(f"{xml}: CVAT's own XML, not Pascal VOC: export the task as COCO 1.0 or Pascal VOC 1.1")
    if root.tag != "annotation":
        raise DataError(f"{xml}: not a VOC annotation: its root is <{root.tag}>")
    return root


def _in_another_encoding(raw: bytes, xml: Path, error: Exception, notices: Notices) -> Any:
    """The root of an XML that says nothing, or nothing true, about its encoding, or one that expat does not know."""
    from defusedxml.ElementTree import fromstring

    head = _DECLARATION.match(raw[:200].decode("latin-1"))
    tried = []
    if head and head[1]:
        try:
            tried.append((raw.decode(head[1]), head[1]))
        except (UnicodeError, LookupError, ValueError):
            pass
    try:
        tried.append(decoded(raw))
    except ValueError:
        pass
    for text, encoding in tried:
        try:
            root = fromstring(_DECLARATION.sub("", text.lstrip("\ufeff"), count=1).lstrip(), forbid_dtd=True)
        except ParseError:
            continue
        if not head or head[1] != encoding:
            rest = f"not in the encoding that they state: read as {encoding.upper()}"
            notices.count("label file", "label files", rest, xml.name)
        return root
    raise DataError(f"{xml}: not valid XML ({error}): export it again") from None


def _box(item: Any, first: float, where: str, notices: Notices) -> tuple[float, float, float, float]:
    if item.find("bndbox") is None and item.find("robndbox") is not None:  # roLabelImg: centre, size, radians
        x, y, width, height, angle = (
            _number(item.findtext(f"robndbox/{tag}"), f"{where}: {tag}") for tag in ("cx", "cy", "w", "h", "angle")
        )
        upright = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        return turned_bounds(upright, math.degrees(angle), where, notices)
    x1, y1, x2, y2 = (_number(item.findtext(f"bndbox/{tag}"), f"{where}: {tag}") for tag in CORNERS)
    return turned_bounds((x1 - first, y1 - first, x2, y2), _attributes(item).get("rotation"), where, notices)


def _attributes(node: Any) -> dict[str, str]:
    return {one.findtext("name") or "": one.findtext("value") or "" for one in node.findall("attributes/attribute")}


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: not a number: {text!r}")
    return value


def _flag(item: Any, tag: str, where: str, notices: Notices) -> bool:
    """A mark; tools write yes and no in many ways, VOC 2008 and later the share that is cut off."""
    text = (item.findtext(tag) or "").strip().lower()
    if text in _FLAGS:
        return _FLAGS[text]
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if share in (0.0, 1.0) or (tag == "truncated" and 0 <= share <= 1):
        return share > 0
    notices.count("mark", "marks", f"{tag} that say neither yes nor no: taken as no", f"{where}: {text!r}")
    return False
