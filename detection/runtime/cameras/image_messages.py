"""Images out of messages as robots record them: ROS 2's (CDR), ROS 1's, and Foxglove's (JSON, Protobuf)."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.cameras.encodings import from_pixels
from detection.runtime.decoding.pixels import NoteKind, decode
from detection.runtime.decoding.refusal import ImageRefused

ROS_IMAGE = "sensor_msgs/msg/Image"
ROS_COMPRESSED = "sensor_msgs/msg/CompressedImage"
FOXGLOVE_COMPRESSED = "foxglove.CompressedImage"
IMAGE_SCHEMAS = frozenset({ROS_IMAGE, ROS_COMPRESSED, FOXGLOVE_COMPRESSED})


@dataclass(frozen=True)
class ImageMessage:
    """One message with an image.

    Attributes:
        image: uint8 (H, W, 3) BGR.
        stamp_s: when it was taken, in seconds of the recorder's clock; None where it does not say.
        notes: what of it was left out or assumed: kind and words.

    """

    image: NDArray[np.uint8]
    stamp_s: float | None
    notes: tuple[tuple[NoteKind, str], ...] = ()


def decode_message(schema: str, encoding: str, data: bytes) -> ImageMessage:
    """The image of a message.

    Args:
        schema: its type by name, one of `IMAGE_SCHEMAS`.
        encoding: "cdr" (ROS 2), "ros1", "json" or "protobuf" (Foxglove).
        data: the message.

    Raises:
        ImageRefused: it is damaged, or its encoding or format, which the message names, is not read.

    """
    try:
        if schema == FOXGLOVE_COMPRESSED:
            stamp_s, content, kind = _foxglove_json(data) if encoding == "json" else _foxglove_protobuf(data)
            return _compressed(content, kind, stamp_s)
        fields = _Cdr(data) if encoding == "cdr" else _Ros1(data)
        if encoding != "cdr":
            fields.number("I", 4)  # seq
        stamp_s = fields.number("i", 4) + fields.number("I", 4) / 1e9
        fields.text()  # frame_id
        if schema == ROS_COMPRESSED:
            kind = fields.text()
            return _compressed(fields.octets(), kind, stamp_s)
        height, width, kind = fields.number("I", 4), fields.number("I", 4), fields.text()
        big_endian = bool(fields.number("B", 1))
        step = fields.number("I", 4)
        image, notes = from_pixels(fields.octets(), height, width, step, kind, big_endian=big_endian)
        return ImageMessage(image, stamp_s, notes)
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ImageRefused("the message is damaged or cut short") from None


def _compressed(content: bytes, kind: str, stamp_s: float | None) -> ImageMessage:
    try:
        decoded = decode(content)
    except ImageRefused as error:
        raise ImageRefused(f"format {kind[:40]!r}: {error}") from None
    return ImageMessage(decoded.image, stamp_s, decoded.notes)


class _Ros1:
    """Fields one after the other, little-endian, without gaps, as ROS 1 writes them."""

    def __init__(self, data: bytes, order: str = "<") -> None:
        self._data = data
        self._order = order
        self._at = 0

    def number(self, code: str, size: int) -> int:
        (value,) = struct.unpack_from(self._order + code, self._data, self._at)
        self._at += size
        return int(value)

    def octets(self) -> bytes:
        length = self.number("I", 4)
        found = self._data[self._at : self._at + length]
        if len(found) < length:
            raise ValueError("cut off")
        self._at += length
        return found

    def text(self) -> str:
        return self.octets().rstrip(b"\0").decode("utf-8", "replace")


class _Cdr(_Ros1):
    """OMG's Common Data Representation, as ROS 2 writes it: the same aligned to their size, after a 4-byte head."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data[4:], "<" if data[1] & 1 else ">")

    def number(self, code: str, size: int) -> int:
        self._at += -self._at % size
        return super().number(code, size)


def _foxglove_json(data: bytes) -> tuple[float | None, bytes, str]:
    message = json.loads(data)
    stamp = message.get("timestamp")
    stamp_s = stamp["sec"] + stamp["nsec"] / 1e9 if isinstance(stamp, dict) else None
    return stamp_s, base64.b64decode(message["data"]), str(message.get("format", ""))


def _foxglove_protobuf(data: bytes) -> tuple[float | None, bytes, str]:
    """Fields of foxglove.CompressedImage: 1 timestamp (1 seconds, 2 nanos), 2 data, 3 format."""
    fields = _protobuf(data)
    stamp_s = None
    if isinstance(stamp := fields.get(1), bytes):
        parts = _protobuf(stamp)
        stamp_s = int(parts.get(1, 0)) + int(parts.get(2, 0)) / 1e9
    content = fields[2]
    if not isinstance(content, bytes):
        raise ValueError("no image")
    kind = fields.get(3, b"")
    return stamp_s, content, kind.decode("utf-8", "replace") if isinstance(kind, bytes) else ""


def _protobuf(data: bytes) -> dict[int, int | bytes]:
    """Field number to value: whole numbers and byte strings, which is all that is needed here."""
    fields: dict[int, int | bytes] = {}
    at = 0

    def whole() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = whole()
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            fields[number] = whole()
        elif kind == 2:
            length = whole()
            if at + length > len(data):
                raise ValueError("cut off")
            fields[number] = data[at : at + length]
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not Protobuf")
    return fields
