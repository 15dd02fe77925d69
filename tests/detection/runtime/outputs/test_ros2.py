"""rclpy is on no package index: its place is taken by stand-ins as strict about fields and types as its messages."""

from __future__ import annotations

import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from detection.runtime.errors import OutputError
from detection.runtime.outputs.ros2 import Ros2Output, to_message, topic_name

# vision_msgs 4 (Humble and later): field by field, as far as it is used.
LAYOUT: dict[str, dict[str, Any]] = {
    "Time": {"sec": int, "nanosec": int},
    "Header": {"stamp": "Time", "frame_id": str},
    "Point2D": {"x": float, "y": float},
    "Pose2D": {"position": "Point2D", "theta": float},
    "BoundingBox2D": {"center": "Pose2D", "size_x": float, "size_y": float},
    "ObjectHypothesis": {"class_id": str, "score": float},
    "ObjectHypothesisWithPose": {"hypothesis": "ObjectHypothesis"},
    "Detection2D": {"header": "Header", "results": list, "bbox": "BoundingBox2D", "id": str},
    "Detection2DArray": {"header": "Header", "detections": list},
}


class Message:
    def __init__(self) -> None:
        for field, kind in LAYOUT[type(self).__name__].items():
            setattr(self, field, MESSAGES[kind]() if isinstance(kind, str) else kind())

    def __setattr__(self, field: str, value: Any) -> None:
        kind = LAYOUT[type(self).__name__][field]  # KeyError: no such field
        assert type(value) is (MESSAGES[kind] if isinstance(kind, str) else kind), (field, value)
        super().__setattr__(field, value)


MESSAGES: dict[str, type[Message]] = {name: type(name, (Message,), {}) for name in LAYOUT}
MODULE = SimpleNamespace(**MESSAGES)


def test_boxes_become_centre_and_size(sample: Any) -> None:
    record = sample.call(labels=(1, 0))[2]
    record["detections"][0]["box_xyxy"] = [10.5, 20.0, 13.5, 30.0]
    record["detections"][1]["track_id"] = None
    array = to_message(record, 1_700_000_000_250_000_001, MODULE)
    assert (array.header.stamp.sec, array.header.stamp.nanosec) == (1_700_000_000, 250_000_001)
    assert array.header.frame_id == "left"
    first, second = array.detections
    assert first.header.frame_id == "left" and first.header.stamp.sec == 1_700_000_000
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (12.0, 25.0)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (3.0, 10.0, 0.0)
    assert [(r.hypothesis.class_id, r.hypothesis.score) for r in first.results] == [("crop", 0.5)]
    assert (first.id, second.id) == ("7", "")
    assert second.results[0].hypothesis.class_id == "weed"


def test_an_empty_field_is_an_empty_array(sample: Any) -> None:
    assert to_message(sample.call(labels=())[2], 5, MODULE).detections == []


@pytest.mark.parametrize(
    ("camera", "name"),
    [
        ("left", "left"),
        ("10.0.0.7:554/s 1", "camera_10_0_0_7_554_s_1"),
        ("Grün", "Gr_n"),
        ("__a--b__", "a_b"),
        ("", "camera"),
        ("ä", "camera"),
    ],
)
def test_camera_names_in_topics(camera: str, name: str) -> None:
    assert topic_name(camera) == name


class Ros:
    """As much of rclpy as is used."""

    def __init__(self) -> None:
        self.up = False
        self.signals: Any = None
        self.topics: list[str] = []
        self.published: list[tuple[str, Any]] = []
        self.now_ns = 2_000_000_000_000_000_000

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ros = self

        class Context:
            def ok(self) -> bool:
                return ros.up

            def shutdown(self) -> None:
                ros.up = False

        class Node:
            def get_clock(self) -> Any:
                return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=ros.now_ns))

            def create_publisher(self, kind: Any, topic: str, depth: int) -> Any:
                assert kind is MESSAGES["Detection2DArray"] and depth > 0
                ros.topics.append(topic)
                return SimpleNamespace(publish=lambda message: self.publish(topic, message))

            def publish(self, topic: str, message: Any) -> None:
                if not ros.up:
                    raise RuntimeError("context is not valid")
                ros.published.append((topic, message))

            def destroy_node(self) -> None:
                assert ros.up

        def init(*, context: Any, signal_handler_options: Any) -> None:
            ros.up, ros.signals = True, signal_handler_options

        def create_node(name: str, *, context: Any) -> Node:
            assert isinstance(context, Context) and name == "robot"
            return Node()

        def module(name: str, **content: Any) -> None:
            made = ModuleType(name)
            vars(made).update(content)
            monkeypatch.setitem(sys.modules, name, made)

        module("rclpy", init=init, create_node=create_node)
        module("rclpy.context", Context=Context)
        module("rclpy.signals", SignalHandlerOptions=SimpleNamespace(NO="none"))
        module("vision_msgs", msg=MODULE)
        module("vision_msgs.msg", **MESSAGES)


def test_a_topic_for_each_camera_and_the_stamp_of_the_grab(monkeypatch: pytest.MonkeyPatch, sample: Any) -> None:
    ros = Ros()
    ros.install(monkeypatch)
    with Ros2Output("robot") as output:
        assert ros.up and ros.signals == "none"
        for camera in ("left", "cam 2", "left"):
            call = sample.call(camera=camera)
            call[2]["captured_ns"] = time.monotonic_ns() - 3_000_000_000
            output.write(*call)
        output.event(sample.status("left", "lost"))
    assert not ros.up
    output.close()
    assert ros.topics == ["robot/left/detections", "robot/cam_2/detections"]
    assert [topic for topic, _ in ros.published] == [ros.topics[0], ros.topics[1], ros.topics[0]]
    for _, message in ros.published:
        age_s = 2_000_000_000 - (message.header.stamp.sec + message.header.stamp.nanosec / 1e9)
        assert 3.0 <= age_s < 30.0
    with pytest.raises(OutputError, match="ROS 2: context is not valid"):
        output.write(*sample.call())


def test_without_ros_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(OutputError, match="ROS 2 is not installed here .*setup.bash") as error:
        Ros2Output()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["", "1st", "a/b", "ä", "a b"])
def test_prefixes_that_are_no_names(prefix: str) -> None:
    with pytest.raises(OutputError, match="is no name for a node"):
        Ros2Output(prefix)
