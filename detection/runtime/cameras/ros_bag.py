"""ROS 1 bags and ROS 2 bags: the images of one topic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from detection.runtime.cameras.bags import BagImages, Message, bag_and_topic, bag_path, pick_topic
from detection.runtime.cameras.kind import CameraKind
from detection.runtime.cameras.mcap import HOW_TO_REPAIR
from detection.runtime.cameras.settings import RecordingSettings
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener


def _is_bag(path: Path) -> bool:
    return (path / "metadata.yaml").is_file() or (path.is_file() and path.suffix.lower() == ".bag")


def _missing(source: str) -> str | None:
    return None if find_spec("rosbags") else f'{source}: reading ROS bags needs: pip install "swath[bags]"'


def read_ros_bag(path: Path, topic: str | None, opened: ExitStack) -> tuple[int | None, Iterator[Message]]:
    """How many images a topic of a bag has, and its messages.

    Args:
        path: a `.bag`, or the folder of a ROS 2 bag.
        topic: None where it has one with images only.
        opened: closes the bag.

    Raises:
        SourceError: no such topic, or several.

    """
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    from detection.runtime.cameras.image_messages import IMAGE_SCHEMAS

    reader = opened.enter_context(AnyReader([path], default_typestore=get_typestore(Stores.LATEST)))
    connections = [c for c in reader.connections if c.msgtype in IMAGE_SCHEMAS]
    picked = pick_topic(path, {c.topic for c in connections}, topic)
    connections = [c for c in connections if c.topic == picked]

    def messages() -> Iterator[Message]:
        for connection, logged_ns, content in reader.messages(connections):
            yield connection.msgtype, "cdr" if reader.is2 else "ros1", content, logged_ns / 1e9

    return sum(c.msgcount for c in connections), messages()


def _how_to_repair(path: Path) -> str:
    if path.is_file():
        return f"`rosbag reindex {path.name}` saves what is there"
    if any(path.glob("*.mcap")):
        return f"{HOW_TO_REPAIR}; then `ros2 bag reindex {path.name}`"
    return f"`sqlite3 CUT.db3 .recover` saves what is there; then `ros2 bag reindex {path.name}`"


def _open(settings: RecordingSettings, camera: str, on_event: Listener | None) -> Source:
    path, topic = bag_and_topic(settings.source, _is_bag)
    return BagImages(path, topic, camera, read_ros_bag, settings.max_fps, repair=_how_to_repair(path))


KIND = CameraKind(
    "ROS bag",
    "ROS bag[#TOPIC]",
    lambda source: bag_path(source, _is_bag) is not None,
    _open,
    live=False,
    settings=RecordingSettings,
    path=lambda source: bag_path(source, _is_bag),
    missing=_missing,
)
