"""Images by HTTP, read without FFmpeg: Motion JPEG, and addresses that give one image a request.

FFmpeg wants a Motion JPEG stream by the book, and takes a snapshot for a stream that broke off. Here the images
themselves are looked for, with or without Content-Length, boundary, or a boundary before the first image.
"""

from __future__ import annotations

import logging
import re
import time
from http.client import HTTPException
from typing import Any

from detection.runtime.addresses import shown_address
from detection.runtime.cameras.refusals import refusal_of_error, refusal_of_status
from detection.runtime.cameras.web import Answer, get
from detection.runtime.deadline import Deadline
from detection.runtime.decoding.pixels import decode
from detection.runtime.decoding.refusal import ImageRefused
from detection.runtime.errors import SourceError

_log = logging.getLogger(__name__)

SNAPSHOTS_A_SECOND = 5.0
"""Of an address that gives one image a request, where `max_fps` does not say."""

_IMAGE_BYTES = 64 << 20
_CHUNK_BYTES = 65_536
_BEGIN = b"\xff\xd8\xff"
_SLICE_S = 0.2
_SAME_FOR_S = 10.0
_LENGTH = re.compile(rb"(?i)content-length:\s*(\d{1,9})")


class MotionJpeg:
    """A stream of JPEGs, as `Capture`.

    Args:
        answer: its head has come.
        silence_s: how long an image may take, byte by byte.
        begun: what of its body was read already.

    """

    def __init__(self, answer: Answer, silence_s: float, begun: bytes = b"") -> None:
        self._answer = answer
        self._silence_s = self._until_s = silence_s
        self._waiting = bytearray(begun)
        self._image: bytes = b""

    def grab(self) -> bool:
        """Wait for the next image; False where the stream ended or is silent."""
        self._until_s = time.monotonic() + self._silence_s
        try:
            self._image = self._next()
        except (OSError, HTTPException, EOFError, ValueError):
            return False
        return True

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the image can be decoded, and the image."""
        return _decoded(self._image)

    def get(self, propId: int, /) -> float:
        """Always 0: nothing is known by OpenCV's properties."""
        return 0.0

    def release(self) -> None:
        """Close the connection."""
        self._answer.close()

    def _next(self) -> bytes:
        begin = self._find_begin()
        lengths = _LENGTH.findall(self._waiting, 0, begin)
        del self._waiting[:begin]
        if lengths and 0 < (length := int(lengths[-1])) <= _IMAGE_BYTES:
            while len(self._waiting) < length:
                self._read()
            if b"\xff\xd9" in self._waiting[max(0, length - 256) : length]:  # some cameras give a wrong length
                return self._taken(length)
        while (end := jpeg_end(self._waiting)) < 0:
            self._read()
        return self._taken(end)

    def _find_begin(self) -> int:
        while (begin := self._waiting.find(_BEGIN)) < 0:
            if len(self._waiting) > _CHUNK_BYTES:
                raise ValueError("no JPEG in it")
            self._read()
        return begin

    def _taken(self, length: int) -> bytes:
        image = bytes(self._waiting[:length])
        del self._waiting[:length]
        return image

    def _read(self) -> None:
        more = self._answer.response.read1(_CHUNK_BYTES)
        if not more:
            raise EOFError
        if time.monotonic() > self._until_s:
            raise TimeoutError
        self._waiting += more
        if len(self._waiting) > _IMAGE_BYTES + _CHUNK_BYTES:
            raise ValueError("an image without end")


class Snapshots:
    """An address that gives one image a request, asked again and again, as `Capture`.

    Args:
        url: with user and password, where there are any.
        first: the image that is there already.
        period_s: from one request to the next.
        silence_s: how long one may take.

    Attributes:
        unchanged: whether the last `grab` brought no new image.

    """

    def __init__(self, url: str, first: bytes, period_s: float, silence_s: float) -> None:
        self.unchanged = False
        self._url, self._period_s, self._silence_s = url, period_s, silence_s
        self._image = first
        self._fresh = True
        self._due_s = self._changed_s = time.monotonic()
        self._said = False

    def grab(self) -> bool:
        """Ask for the next image when it is time; returns now and then without one (`unchanged`).

        Raises:
            SourceError: the camera does not give it.

        """
        if self._fresh:
            self._fresh = self.unchanged = False
            self._due_s = time.monotonic() + self._period_s
            return True
        wait_s = self._due_s - time.monotonic()
        if wait_s > _SLICE_S:
            time.sleep(_SLICE_S)
            self.unchanged = True
            return True
        time.sleep(max(0.0, wait_s))
        self._due_s = max(self._due_s, time.monotonic() - self._period_s) + self._period_s
        image = self._ask()
        self.unchanged = image == self._image
        self._image = image
        now_s = time.monotonic()
        if not self.unchanged:
            self._changed_s, self._said = now_s, False
        elif now_s - self._changed_s > _SAME_FOR_S and not self._said:
            self._said = True
            shown = shown_address(self._url)
            _log.warning("%s: has given the same image for %.0f s; is it a still image?", shown, _SAME_FOR_S)
        return True

    def retrieve(self) -> tuple[bool, Any]:
        """Whether the image can be decoded, and the image."""
        return _decoded(self._image)

    def get(self, propId: int, /) -> float:
        """Always 0: nothing is known by OpenCV's properties."""
        return 0.0

    def release(self) -> None:
        """Nothing is open between two requests."""

    def _ask(self) -> bytes:
        shown = shown_address(self._url)
        with Deadline(self._silence_s) as deadline:
            try:
                answer = get(self._url, deadline)
                try:
                    refusal = refusal_of_status(answer.status)
                    if refusal is not None:
                        raise SourceError(f"{shown}: no image from there: {refusal.reason}")
                    image = read_image(answer)
                    deadline.check()
                    return image
                finally:
                    answer.close()
            except (OSError, ValueError, HTTPException) as error:
                reason = refusal_of_error(error, self._silence_s, deadline).reason
                raise SourceError(f"{shown}: no image from there: {reason}") from None


def read_image(answer: Answer) -> bytes:
    """The body of an answer that is one image.

    Raises:
        OSError: it does not come.
        ValueError: it is larger than an image.

    """
    content = answer.response.read(_IMAGE_BYTES + 1)
    if len(content) > _IMAGE_BYTES:
        raise ValueError("an image without end")
    return content


def images_of(answer: Answer) -> tuple[bytes, bool] | None:
    """What of the body has been read, and whether that is all: one image. None where it is no JPEG.

    Raises:
        OSError: it does not come.
        HTTPException: it is broken off.
        ValueError: it is larger than an image.

    """
    if answer.content_type.startswith("multipart/"):
        return b"", False
    if answer.content_type.startswith("image/") and answer.response.length is not None:
        return read_image(answer), True
    content = bytearray()
    while more := answer.response.read1(_CHUNK_BYTES):
        content += more
        head = content.lstrip()
        if not head.startswith(_BEGIN):
            parts = head.startswith((b"--", b"Content-")) or _BEGIN in content[:1024]
            return (bytes(content), False) if parts else None
        end = jpeg_end(head)
        if 0 <= end < len(head) and _BEGIN in head[end:]:
            return bytes(content), False
        if len(content) > _IMAGE_BYTES:
            raise ValueError("an image without end")
    return (bytes(content), True) if content else None


def jpeg_end(data: bytes | bytearray) -> int:
    """Where the JPEG at the begin of `data` ends; -1 where it goes on beyond it.

    Its segments are followed, so that the end of a thumbnail in it is not taken for its own.

    Raises:
        ValueError: it is none.

    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ValueError("not a JPEG")
        kind = data[at + 1]
        if kind == 0xD9:
            return at + 2
        if kind == 0xFF or kind == 0x01 or 0xD0 <= kind <= 0xD7:
            at += 1 if kind == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0xDA:
            at = _scan_end(data, at)
            if at < 0:
                return -1
    return at + 2 if len(data) >= at + 2 and data[at : at + 2] == b"\xff\xd9" else -1


def _scan_end(data: bytes | bytearray, at: int) -> int:
    """Where the next segment begins after compressed data."""
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        kind = data[at + 1]
        if kind != 0 and kind != 0xFF and not 0xD0 <= kind <= 0xD7:
            return at
        at += 1 if kind == 0xFF else 2
    return -1


def _decoded(content: bytes) -> tuple[bool, Any]:
    try:
        return True, decode(content).image
    except ImageRefused:
        return False, None
