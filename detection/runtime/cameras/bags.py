"""Recordings of robots as sources: MCAP files and ROS bags. Every image of one topic, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detection.runtime.cameras.frame_rate import FrameRateLimiter
from detection.runtime.cameras.image_messages import IMAGE_SCHEMAS, ImageMessage, decode_message
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError

_log = logging.getLogger(__name__)

_Message = tuple[str, str, bytes, float]
"""Schema, encoding, content, and when it was recorded in seconds."""


def is_bag(path: Path) -> bool:
    """Whether a path is an MCAP file, a ROS 1 bag, or a ROS 2 bag (its folder)."""
    return (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix.lower() in (".mcap", ".bag"))


class BagImages(Source):
    """The images of one topic of a recording.

    Args:
        path: an `.mcap`, a ROS 1 `.bag`, or the folder of a ROS 2 bag.
        topic: which of its topics with images; None where there is one only.
        camera: its name in outputs.
        max_fps: give at most so many images for each second of the recording; None for all.

    Raises:
        SourceError: it cannot be read, or has no such topic, or several and none is named.

    """

    live = False
    fps = None
    dropped = 0

    def __init__(self, path: Path, topic: str | None, camera: str, max_fps: float | None = None) -> None:
        self.camera = camera
        self.unreadable = 0
        self.ended = False
        self._shown_as = str(path)
        self._index = 0
        self._limiter = FrameRateLimiter(max_fps)
        self._first_s: float | None = None
        with ExitStack() as opened:
            try:
                read = _read_mcap if path.suffix.lower() == ".mcap" else _read_ros
                self.length, self._messages = read(path, topic, opened)
            except (SourceError, ImportError):
                raise
            except Exception as error:  # each of the libraries has its own
                raise SourceError(f"{path}: cannot be read as a recording ({_line(error)})") from None
            self._opened = opened.pop_all()

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image that can be read; `timeout_s` does not matter.

        Raises:
            SourceError: the recording is damaged from here on, or not one of its images could be read.

        """
        while not self.ended:
            captured_ns = time.monotonic_ns()
            try:
                schema, encoding, content, logged_s = next(self._messages)
            except StopIteration:
                self.ended = True
                if self._index and self.unreadable == self._index:
                    raise SourceError(f"{self._shown_as}: none of its {self._index} images could be read") from None
                return None
            except Exception as error:
                self.ended = True
                raise SourceError(
                    f"{self._shown_as}: broke off after {self._index} images ({_line(error)}); is it damaged?"
                ) from None
            if not self._limiter.accepts(logged_s):
                continue
            found = decode_message(schema, encoding, content)
            index = self._index
            self._index += 1
            if found is not None:
                return Frame(found.image, self.camera, index, captured_ns, self._stream_s(found, logged_s))
            self.unreadable += 1
            _log.warning("%s: image %d cannot be read, left out", self._shown_as, index)
        return None

    def _stream_s(self, message: ImageMessage, logged_s: float) -> float:
        taken_s = message.stamp_s or logged_s  # 0 is a stamp that nobody set
        if self._first_s is None:
            self._first_s = taken_s
        return taken_s - self._first_s

    def close(self) -> None:
        """Close the file."""
        self.ended = True
        self._opened.close()


def _pick(path: Path, topics: dict[str, str], topic: str | None) -> str:
    """The topic to read: `topics` is name to schema, of those with images."""
    listed = ", ".join(sorted(topics)) or "none"
    if topic is None and len(topics) == 1:
        return next(iter(topics))
    if topic is None:
        raise SourceError(f"{path}: write {path}#TOPIC; its topics with images: {listed}")
    if topic not in topics:
        raise SourceError(f"{path}: no topic {topic} with images; those with images: {listed}")
    return topic


def _read_mcap(path: Path, topic: str | None, opened: ExitStack) -> tuple[int | None, Iterator[_Message]]:
    try:
        from mcap.reader import make_reader
    except ImportError:
        raise SourceError(f'{path}: reading MCAP needs: pip install "swath[stream]"') from None
    reader: Any = make_reader(opened.enter_context(path.open("rb")), validate_crcs=True)
    summary = reader.get_summary()
    if summary is None:
        raise SourceError(f"{path}: has no summary, so it was not finished; mend it with `mcap recover`")
    schemas = {number: schema.name for number, schema in summary.schemas.items()}
    channels = {
        channel.topic: channel
        for channel in summary.channels.values()
        if schemas.get(channel.schema_id) in IMAGE_SCHEMAS
    }
    picked = channels[_pick(path, {name: schemas[c.schema_id] for name, c in channels.items()}, topic)]
    counts = summary.statistics.channel_message_counts if summary.statistics else {}

    def messages() -> Iterator[_Message]:
        for schema, channel, message in reader.iter_messages(topics=[picked.topic]):
            yield schema.name, channel.message_encoding, message.data, message.log_time / 1e9

    return counts.get(picked.id), messages()


def _read_ros(path: Path, topic: str | None, opened: ExitStack) -> tuple[int | None, Iterator[_Message]]:
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise SourceError(f'{path}: reading ROS bags needs: pip install "swath[bags]"') from None
    reader = opened.enter_context(AnyReader([path], default_typestore=get_typestore(Stores.LATEST)))
    connections = [c for c in reader.connections if c.msgtype in IMAGE_SCHEMAS]
    picked = _pick(path, {c.topic: c.msgtype for c in connections}, topic)
    connections = [c for c in connections if c.topic == picked]

    def messages() -> Iterator[_Message]:
        for connection, logged_ns, content in reader.messages(connections):
            yield connection.msgtype, "cdr" if reader.is2 else "ros1", content, logged_ns / 1e9

    return sum(c.msgcount for c in connections), messages()


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
