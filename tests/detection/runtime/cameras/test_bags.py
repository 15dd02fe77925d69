"""Images out of MCAP files and ROS bags, each written by the library of its makers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.writer import Writer
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_typestore

from detection.runtime.cameras.image_messages import FOXGLOVE_COMPRESSED, decode_message
from detection.runtime.cameras.sources import camera_settings, open_source
from detection.runtime.decoding.refusal import ImageRefused
from detection.runtime.errors import SourceError

ROS2 = get_typestore(Stores.ROS2_HUMBLE)
ROS1 = get_typestore(Stores.ROS1_NOETIC)
COMPRESSED, IMAGE = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"


def _image(i: int) -> np.ndarray:
    image = np.full((24, 32, 3), (10 * i, 100, 200), np.uint8)
    image[:12, :16] = (0, 0, 250)  # upper left: red
    return image


def _ros_message(store: Any, kind: str, i: int, encoding: str = "bgr8") -> Any:
    types = store.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1_700_000_000 + i // 10, nanosec=i % 10 * 100_000_000)
    extra = {"seq": i} if store is ROS1 else {}
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera link", **extra)
    image = _image(i)
    if kind == COMPRESSED:
        data = cv2.imencode(".png", image)[1].ravel()
        return types[COMPRESSED](header=header, format="png", data=data)
    if encoding == "rgb8":
        image = image[..., ::-1]
    if encoding == "mono8":
        image = image[..., 1]
    step = 32 * (1 if encoding == "mono8" else 3) + 4  # rows may be padded
    rows = np.zeros((24, step), np.uint8)
    rows[:, : step - 4] = image.reshape(24, -1)
    return types[IMAGE](
        header=header, height=24, width=32, encoding=encoding, is_bigendian=0, step=step, data=rows.ravel()
    )


def write_ros2(
    path: Path, topics: dict[str, str], count: int = 10, storage: StoragePlugin = StoragePlugin.SQLITE3
) -> Path:
    with Ros2Writer(path, version=9, storage_plugin=storage) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=ROS2)
            for i in range(count):
                message = _ros_message(ROS2, kind, i)
                writer.write(
                    connection, 1_700_000_000_000_000_000 + i * 100_000_000, ROS2.serialize_cdr(message, kind)
                )
    return path


def write_mcap(path: Path, messages: dict[str, list[tuple[str, str, bytes]]]) -> Path:
    """`messages`: topic to (schema, encoding, content), ten a second."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        for topic, listed in messages.items():
            schema, encoding, _ = listed[0]
            kind = {"cdr": "ros2msg", "ros1": "ros1msg", "json": "jsonschema", "protobuf": "protobuf"}[encoding]
            channel = writer.register_channel(topic, encoding, writer.register_schema(schema, kind, b""))
            for i, (_, _, content) in enumerate(listed):
                writer.add_message(channel, log_time=10**18 + i * 10**8, publish_time=0, data=content)
        writer.finish()
    return path


def _cdr(kind: str, count: int = 10, encoding: str = "bgr8") -> list[tuple[str, str, bytes]]:
    return [
        (kind, "cdr", bytes(ROS2.serialize_cdr(_ros_message(ROS2, kind, i, encoding), kind))) for i in range(count)
    ]


def _jpeg(i: int) -> bytes:
    return cv2.imencode(".png", _image(i))[1].tobytes()


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _foxglove(encoding: str, i: int) -> bytes:
    if encoding == "json":
        stamp = {"sec": 1_700_000_000, "nsec": i * 100_000_000}
        data = base64.b64encode(_jpeg(i)).decode()
        return json.dumps({"timestamp": stamp, "frame_id": "c", "data": data, "format": "png"}).encode()
    stamp_bytes = b"\x08" + _varint(1_700_000_000) + b"\x10" + _varint(i * 100_000_000)
    jpeg = _jpeg(i)
    return (
        b"\x0a"
        + _varint(len(stamp_bytes))
        + stamp_bytes
        + b"\x12"
        + _varint(len(jpeg))
        + jpeg
        + b"\x1a\x03png"
        + b"\x22\x01c"
    )


def _check(source: Any, count: int = 10) -> None:
    assert not source.live and source.length == count
    frames = list(source)
    assert [f.index for f in frames] == list(range(count))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, _image(i))
        assert frame.image.flags.writeable
        assert frame.stream_s == pytest.approx(i / 10, abs=1e-5)
    assert source.ended and source.unreadable == 0 and source.poll(0) is None


@pytest.mark.parametrize("kind", [COMPRESSED, IMAGE])
def test_ros2_messages_in_an_mcap(tmp_path: Path, kind: str) -> None:
    path = write_mcap(tmp_path / "drive.mcap", {"/camera": _cdr(kind)})
    with open_source(path) as source:
        assert source.camera == "drive"
        _check(source)


@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_foxglove_images_in_an_mcap(tmp_path: Path, encoding: str) -> None:
    messages = [(FOXGLOVE_COMPRESSED, encoding, _foxglove(encoding, i)) for i in range(10)]
    path = write_mcap(tmp_path / "a.mcap", {"/left/image": messages})
    with open_source(path) as source:
        _check(source)
    with open_source(path) as source:  # to a microsecond: the stamps pass through seconds in float64
        utc_ns = [frame.captured_utc_ns for frame in source]
    assert utc_ns == pytest.approx([1_700_000_000_000_000_000 + i * 100_000_000 for i in range(10)], rel=0, abs=1000)


@pytest.mark.parametrize("storage", list(StoragePlugin))
@pytest.mark.parametrize("kind", [COMPRESSED, IMAGE])
def test_ros2_bag(tmp_path: Path, kind: str, storage: StoragePlugin) -> None:
    with open_source(write_ros2(tmp_path / "bag", {"/camera": kind}, storage=storage)) as source:
        assert source.camera == "bag"
        _check(source)


@pytest.mark.parametrize("kind", [COMPRESSED, IMAGE])
def test_ros1_bag(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "old.bag"
    with Ros1Writer(path) as writer:
        connection = writer.add_connection("/camera", kind, typestore=ROS1)
        for i in range(10):
            content = ROS1.serialize_ros1(_ros_message(ROS1, kind, i), kind)
            writer.write(connection, 1_700_000_000_000_000_000 + i * 100_000_000, content)
    with open_source(path) as source:
        _check(source)


@pytest.mark.parametrize("kind", [COMPRESSED, IMAGE])
def test_a_ros1_bag_that_was_made_an_mcap(tmp_path: Path, kind: str) -> None:
    name = kind.replace("/msg/", "/")
    messages = [(name, "ros1", bytes(ROS1.serialize_ros1(_ros_message(ROS1, kind, i), kind))) for i in range(10)]
    with open_source(write_mcap(tmp_path / "a.mcap", {"/camera": messages})) as source:
        assert source.length == 10
        _check(source)


def test_a_bag_without_its_metadata_says_what_to_do(tmp_path: Path) -> None:
    bag = write_ros2(tmp_path / "bag", {"/camera": IMAGE}, 2)
    (bag / "metadata.yaml").unlink()
    with pytest.raises(SourceError, match="ros2 bag reindex bag"):
        open_source(bag)


@pytest.mark.parametrize(("encoding", "shown"), [("rgb8", (0, 0, 250)), ("mono8", (0, 0, 0))])
def test_other_pixel_formats(tmp_path: Path, encoding: str, shown: tuple[int, ...]) -> None:
    with open_source(write_mcap(tmp_path / "a.mcap", {"/c": _cdr(IMAGE, 1, encoding)})) as source:
        (frame,) = source
    assert tuple(frame.image[2, 2]) == shown and frame.image.shape == (24, 32, 3)


def test_one_topic_of_several_must_be_named(tmp_path: Path) -> None:
    path = write_mcap(
        tmp_path / "drive.mcap",
        {"/left": _cdr(COMPRESSED, 3), "/right": _cdr(COMPRESSED, 4), "/pose": [("Pose", "json", b"{}")]},
    )
    with pytest.raises(SourceError, match=r"write .*drive\.mcap#TOPIC; its topics with images: /left, /right$"):
        open_source(path)
    with pytest.raises(SourceError, match="no topic /up with images; those with images: /left, /right"):
        open_source(f"{path}#/up")
    with open_source(f"{path}#/right") as source:
        _check(source, 4)
    bag = write_ros2(tmp_path / "bag", {"/left": IMAGE, "/right": IMAGE}, 3)
    with open_source(f"{bag}#/left") as source:
        _check(source, 3)


def test_recording_without_images(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {"/pose": [("Pose", "json", b"{}")]})
    with pytest.raises(SourceError, match="its topics with images: none"):
        open_source(path)


def test_damaged_recordings(tmp_path: Path) -> None:
    whole = write_mcap(tmp_path / "a.mcap", {"/c": _cdr(IMAGE, 40)}).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.mcap").write_bytes(b"")
    (tmp_path / "none.bag").write_bytes(b"no bag")
    repairs = {"cut.mcap": "mcap recover", "none.mcap": "mcap recover", "none.bag": "rosbag reindex"}
    for name, repair in repairs.items():
        with pytest.raises(SourceError, match=name) as error:
            open_source(tmp_path / name)
        assert repair in str(error.value)
        assert "\n" not in str(error.value)
    turned = bytearray(whole)
    turned[len(whole) // 3] ^= 0xFF
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(turned)
    with open_source(bad) as source, pytest.raises(SourceError, match="is it damaged"):
        list(source)


def test_unreadable_images_are_counted(tmp_path: Path, caplog: Any) -> None:
    messages = _cdr(COMPRESSED, 3)
    messages[1] = (COMPRESSED, "cdr", messages[1][2][:60])
    with open_source(write_mcap(tmp_path / "a.mcap", {"/c": messages})) as source:
        assert [f.index for f in source] == [0, 2] and source.unreadable == 1
    assert "image 1 cannot be read" in caplog.text
    with (
        open_source(write_mcap(tmp_path / "b.mcap", {"/c": [(COMPRESSED, "cdr", b"")]})) as source,
        pytest.raises(SourceError, match="none of its 1 images"),
    ):
        list(source)


def test_rate_limit_of_a_recording(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {"/c": _cdr(COMPRESSED, 10)})
    with open_source(camera_settings(str(path), max_fps=5)) as source:
        frames = list(source)
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.stream_s for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-5)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40])
@pytest.mark.parametrize("encoding", ["cdr", "json", "protobuf"])
def test_rubbish_is_no_image(data: bytes, encoding: str) -> None:
    for schema in (COMPRESSED, IMAGE, FOXGLOVE_COMPRESSED):
        with pytest.raises(ImageRefused):
            decode_message(schema, encoding, data)


def test_what_is_not_read_is_named_once_and_counted(tmp_path: Path, caplog: Any) -> None:
    messages = _cdr(IMAGE, 3, "nv24")
    with (
        open_source(write_mcap(tmp_path / "a.mcap", {"/c": messages})) as source,
        pytest.raises(
            SourceError, match=r"none of its 3 images could be read \(encoding 'nv24': not read; read are "
        ),
    ):
        list(source)
    lines = [r.message for r in caplog.records]
    assert len(lines) == 2 and "image 0 cannot be read, left out: encoding 'nv24'" in lines[0]
    assert "the same of 3 images" in lines[1]


@pytest.mark.parametrize(
    ("kind", "content"), [("h264", b"\0\0\0\1\x67abc"), ("heic", b"\0\0\0\x18ftypheic" + bytes(20))]
)
def test_a_compressed_format_that_is_not_read_is_named(kind: str, content: bytes) -> None:
    types = ROS2.types
    stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
    header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="c")
    message = types[COMPRESSED](header=header, format=kind, data=np.frombuffer(content, np.uint8))
    with pytest.raises(ImageRefused, match=f"format '{kind}': "):
        decode_message(COMPRESSED, "cdr", bytes(ROS2.serialize_cdr(message, COMPRESSED)))
