"""MCAP recordings: the images of one topic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from detection.runtime.cameras.bags import BagImages, Message, bag_and_topic, bag_path, pick_topic
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.settings import RecordingSettings
from detection.runtime.cameras.source import Source
from detection.runtime.errors import SourceError
from detection.runtime.events import Listener

HOW_TO_REPAIR = "`mcap recover CUT.mcap -o WHOLE.mcap` saves what is there"
"""Of a file whose writer was cut off."""


def _is_mcap(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".mcap"


def _missing(source: str) -> str | None:
    return None if find_spec("mcap") else f'{source}: reading MCAP needs: pip install "swath[stream]"'


def read_mcap(path: Path, topic: str | None, opened: ExitStack) -> tuple[int | None, Iterator[Message]]:
    """How many images a topic of an MCAP file has, and its messages.

    Args:
        path: the file.
        topic: None where it has one with images only.
        opened: closes the file.

    Raises:
        SourceError: no such topic, several, or a file that was not finished.

    """
    from mcap.reader import make_reader

    from detection.runtime.cameras.image_messages import IMAGE_SCHEMAS

    reader: Any = make_reader(opened.enter_context(path.open("rb")), validate_crcs=True)
    summary = reader.get_summary()
    if summary is None:
        raise SourceError(f"{path}: has no summary, so it was not finished; {HOW_TO_REPAIR}")
    schemas = {number: _ros2_name(schema.name) for number, schema in summary.schemas.items()}
    channels = {
        channel.topic: channel
        for channel in summary.channels.values()
        if schemas.get(channel.schema_id) in IMAGE_SCHEMAS
    }
    picked = channels[pick_topic(path, channels, topic)]
    counts = summary.statistics.channel_message_counts if summary.statistics else {}
    # a merged file has several channels of one topic
    of_topic = [channel.id for channel in summary.channels.values() if channel.topic == picked.topic]

    def messages() -> Iterator[Message]:
        for schema, channel, message in reader.iter_messages(topics=[picked.topic]):
            yield _ros2_name(schema.name), channel.message_encoding, message.data, message.log_time / 1e9

    return sum(counts.get(number, 0) for number in of_topic) or None, messages()


def _ros2_name(schema: str) -> str:
    """A message's type as ROS 2 writes it: files that were made from ROS 1's bags have its `sensor_msgs/Image`."""
    package, _, name = schema.partition("/")
    return f"{package}/msg/{name}" if name and "/" not in name else schema


def _open(settings: RecordingSettings, camera: str, on_event: Listener | None) -> Source:
    path, topic = bag_and_topic(settings.source, _is_mcap)
    return BagImages(path, topic, camera, read_mcap, settings.max_fps, repair=HOW_TO_REPAIR)


KIND = CameraKind(
    "mcap",
    "FILE.mcap[#TOPIC]",
    lambda source: bag_path(source, _is_mcap) is not None,
    _open,
    live=False,
    settings=RecordingSettings,
    path=lambda source: bag_path(source, _is_mcap),
    missing=_missing,
)
