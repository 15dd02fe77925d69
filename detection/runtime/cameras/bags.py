"""Recordings of robots: every image of one topic, in order. What MCAP files and ROS bags have in common."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from detection.runtime.cameras.frame_rate import FrameRateLimiter
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError

if TYPE_CHECKING:
    from detection.runtime.detections import Frame

_log = logging.getLogger(__name__)
_MOST_SAID = 20  # kinds of messages about single images

Message = tuple[str, str, bytes, float]
"""Schema, encoding, content, and when it was recorded in seconds."""

ReadBag = Callable[[Path, str | None, ExitStack], tuple[int | None, Iterator[Message]]]
"""Takes a recording, a topic and what closes it; gives how many messages the topic has, and these."""


def bag_and_topic(source: str, is_bag: Callable[[Path], bool]) -> tuple[Path, str | None]:
    """`drive.mcap#/left` -> its path and topic; a path that holds a "#" itself goes before.

    Args:
        source: of the recording.
        is_bag: whether a path is one.

    """
    whole = Path(source).expanduser()
    bag, _, topic = str(whole).partition("#")
    if topic and not whole.exists() and is_bag(Path(bag)):
        return Path(bag), topic
    return whole, None


def bag_path(source: str, is_bag: Callable[[Path], bool]) -> Path | None:
    """The recording that a source names, None where it is none; arguments as of `bag_and_topic`."""
    path, _ = bag_and_topic(source, is_bag)
    return path if is_bag(path) else None


class BagImages(Source):
    """The images of one topic of a recording.

    Args:
        path: an `.mcap`, a ROS 1 `.bag`, or the folder of a ROS 2 bag.
        topic: which of its topics with images; None where there is one only.
        camera: its name in outputs.
        read: opens a recording of this kind.
        max_fps: take at most this many images per second of the recording; None for all.
        repair: what can be done where it was cut off, as by a power loss.

    Raises:
        SourceError: it cannot be read, has no such topic, or has several and none is named.

    """

    live = False
    fps = None
    dropped = 0

    def __init__(
        self,
        path: Path,
        topic: str | None,
        camera: str,
        read: ReadBag,
        max_fps: float | None = None,
        *,
        repair: str,
    ) -> None:
        self.camera = camera
        self._repair = repair
        self.unreadable = 0
        self.ended = False
        self._shown_as = str(path)
        self._index = 0
        self._limiter = FrameRateLimiter(max_fps)
        self._first_s: float | None = None
        self._said: Counter[str] = Counter()
        with ExitStack() as opened:
            try:
                self.length, self._messages = read(path, topic, opened)
            except SourceError:
                raise
            except Exception as error:  # each of the libraries has its own
                raise SourceError(f"{path}: cannot be read as a recording ({_line(error)}); {repair}") from None
            self._opened = opened.pop_all()

    def poll(self, timeout_s: float) -> Frame | None:
        """The next image that can be read; `timeout_s` is not used.

        Raises:
            SourceError: the recording is damaged from here on, or not one of its images could be read.

        """
        from detection.runtime.cameras.image_messages import decode_message
        from detection.runtime.decoding.refusal import ImageRefused
        from detection.runtime.detections import Frame

        while not self.ended:
            captured_ns = time.monotonic_ns()
            try:
                schema, encoding, content, logged_s = next(self._messages)
            except StopIteration:
                self.ended = True
                self._tally()
                if self._index and self.unreadable == self._index:
                    raise SourceError(
                        f"{self._shown_as}: none of its {self._index} images could be read ({next(iter(self._said))})"
                    ) from None
                return None
            except Exception as error:
                self.ended = True
                ended = f"ends after {self._index} images ({_line(error)}); is it damaged?"
                raise SourceError(f"{self._shown_as}: {ended} {self._repair}") from None
            if not self._limiter.accepts(logged_s):
                continue
            index = self._index
            self._index += 1
            try:
                found = decode_message(schema, encoding, content)
            except ImageRefused as error:
                self.unreadable += 1
                self._say(str(error), f"image {index} cannot be read, left out: {error}")
                continue
            for kind, words in found.notes:
                self._say(kind, f"image {index}: {words}")
            taken_s = found.stamp_s or logged_s  # 0 is a stamp that was not set
            self._first_s = taken_s if self._first_s is None else self._first_s
            stream_s, utc_ns = taken_s - self._first_s, round(taken_s * 1e9)
            return Frame(found.image, self.camera, index, captured_ns, stream_s, utc_ns)
        return None

    def _say(self, what: str, line: str) -> None:
        """Log the first of each kind; a topic of ten thousand images would repeat it as often."""
        if what not in self._said and len(self._said) < _MOST_SAID:
            _log.warning("%s: %s", self._shown_as, line)
        if what in self._said or len(self._said) < _MOST_SAID:
            self._said[what] += 1

    def _tally(self) -> None:
        for what, count in self._said.items():
            if count > 1:
                _log.warning("%s: the same of %d images (%s)", self._shown_as, count, what)

    def close(self) -> None:
        """Close the file."""
        self.ended = True
        self._opened.close()


def pick_topic(path: Path, topics: Collection[str], topic: str | None) -> str:
    """The topic to read.

    Args:
        path: of the recording, for messages.
        topics: those with images.
        topic: the one to read; None where there is one only.

    Raises:
        SourceError: no such topic, or several and none is given.

    """
    listed = ", ".join(sorted(topics)) or "none"
    if topic is None and len(topics) == 1:
        return next(iter(topics))
    if topic is None:
        raise SourceError(f"{path}: write {path}#TOPIC; its topics with images: {listed}")
    if topic not in topics:
        raise SourceError(f"{path}: no topic {topic} with images; those with images: {listed}")
    return topic


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
