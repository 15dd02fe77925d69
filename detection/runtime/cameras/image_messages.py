"""Images out of messages as robots record them: ROS 2's (CDR), ROS 1's, and Foxglove's (JSON, Protobuf)."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_CONVERSIONS: dict[str, tuple[int, int | None]] = {
    "bgr8": (3, None),
    "8UC3": (3, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgra8": (4, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, cv2.COLOR_RGBA2BGR),
    "mono8": (1, cv2.COLOR_GRAY2BGR),
    "8UC1": (1, cv2.COLOR_GRAY2BGR),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2BGR_YUYV),
    "yuv422": (2, cv2.COLOR_YUV2BGR_UYVY),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2BGR),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2BGR),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2BGR),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2BGR),
}
"""Encodings of sensor_msgs/Image: bytes a pixel, and OpenCV's conversion."""

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

    """

    image: NDArray[np.uint8]
    stamp_s: float | None


def decode_message(schema: str, encoding: str, data: bytes) -> ImageMessage | None:
    """The image of a message, or None where it cannot be decoded.

    Args:
        schema: its type by name, one of `IMAGE_SCHEMAS`.
        encoding: "cdr" (ROS 2), "ros1", "json" or "protobuf" (Foxglove).
        data: the message.

    """
    try:
        if schema == FOXGLOVE_COMPRESSED:
            stamp_s, content = _foxglove_json(data) if encoding == "json" else _foxglove_protobuf(data)
            image = _decode(content)
        else:
            fields = _Cdr(data) if encoding == "cdr" else _Ros1(data)
            if encoding != "cdr":
                fields.number("I", 4)  # seq
            stamp_s = fields.number("i", 4) + fields.number("I", 4) / 1e9
            fields.text()  # frame_id
            if schema == ROS_COMPRESSED:
                fields.text()  # format: the content says it itself
                image = _decode(fields.octets())
            else:
                height, width, kind = fields.number("I", 4), fields.number("I", 4), fields.text()
                fields.number("B", 1)  # is_bigendian: of pixels of several bytes, which are not read
                step = fields.number("I", 4)
                image = _from_pixels(fields.octets(), height, width, step, kind)
    except (struct.error, ValueError, KeyError, IndexError, cv2.error):
        return None
    return None if image is None else ImageMessage(image, stamp_s)


def _from_pixels(content: bytes, height: int, width: int, step: int, encoding: str) -> NDArray[np.uint8] | None:
    """An image as uint8 (H, W, 3) BGR from the fields of sensor_msgs/Image; None where they do not fit."""
    if encoding not in _CONVERSIONS:
        return None
    bytes_a_pixel, conversion = _CONVERSIONS[encoding]
    if step < width * bytes_a_pixel or len(content) < height * step or 0 in (height, width):
        return None
    rows = np.frombuffer(content, np.uint8, height * step).reshape(height, step)[:, : width * bytes_a_pixel]
    shape = (height, width) if bytes_a_pixel == 1 else (height, width, bytes_a_pixel)
    pixels = np.ascontiguousarray(rows).reshape(shape)
    # A copy where nothing is converted: the message's memory cannot be written to.
    return pixels.copy() if conversion is None else np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _decode(content: bytes) -> NDArray[np.uint8] | None:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.asarray(image, np.uint8)


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


def _foxglove_json(data: bytes) -> tuple[float | None, bytes]:
    message = json.loads(data)
    stamp = message.get("timestamp")
    stamp_s = stamp["sec"] + stamp["nsec"] / 1e9 if isinstance(stamp, dict) else None
    return stamp_s, base64.b64decode(message["data"])


def _foxglove_protobuf(data: bytes) -> tuple[float | None, bytes]:
    """Fields of foxglove.CompressedImage: 1 timestamp (1 seconds, 2 nanos), 2 data."""
    fields = _protobuf(data)
    stamp_s = None
    if isinstance(stamp := fields.get(1), bytes):
        parts = _protobuf(stamp)
        stamp_s = int(parts.get(1, 0)) + int(parts.get(2, 0)) / 1e9
    content = fields[2]
    if not isinstance(content, bytes):
        raise ValueError("no image")
    return stamp_s, content


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
