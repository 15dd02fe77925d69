"""`Ros2Output`: records as `vision_msgs/Detection2DArray`, where ROS 2 is installed."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind, Package

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame

DEFAULT_PREFIX = "swath"
"""Of the topics and name of the node, where none is given."""

# Reliable, the newest ten kept: subscribers of either reliability match, none can hold us up.
_QUEUE = 10


class Ros2Output(Output):
    """Publishes each frame at `/PREFIX/CAMERA/detections` as `vision_msgs/Detection2DArray`.

    The header's stamp is when the image was grabbed, by the node's clock; its `frame_id` is the
    camera's name. Frames without detections are published too. Humble and later (`vision_msgs` 4); events
    are not published. Characters that a topic may not hold become "_".

    Args:
        prefix: of the topics; also the node's name.

    Raises:
        OutputError: ROS 2 or `vision_msgs` is not there or cannot start, or the prefix is no name.

    """

    needs_image = False

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
            raise OutputError(f"ROS 2: {prefix!r} is no name for a node; use letters, digits and _")
        try:
            import rclpy
            from rclpy.context import Context
            from rclpy.signals import SignalHandlerOptions
            from vision_msgs import msg
        except ImportError as error:
            raise OutputError(
                f"ROS 2 is not installed here ({error.name}): source its setup.bash (Humble or later) and install "
                "ros-$ROS_DISTRO-vision-msgs; it comes with no pip package"
            ) from None
        self._messages = msg
        self._prefix = prefix
        self._publishers: dict[str, Any] = {}
        self._context = Context()
        try:
            # Ctrl-C stays ours.
            rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            self._node = rclpy.create_node(prefix, context=self._context)
        except Exception as error:
            raise OutputError(f"ROS 2 does not start: {error}") from None

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Publish one frame.

        Raises:
            OutputError: ROS 2 was shut down.

        """
        camera = record["camera"]
        now_ns = self._node.get_clock().now().nanoseconds
        grabbed_ns = now_ns - (time.monotonic_ns() - record["captured_ns"])
        try:
            if camera not in self._publishers:
                topic = f"{self._prefix}/{topic_name(camera)}/detections"
                self._publishers[camera] = self._node.create_publisher(self._messages.Detection2DArray, topic, _QUEUE)
            self._publishers[camera].publish(to_message(record, grabbed_ns, self._messages))
        except Exception as error:
            raise OutputError(f"ROS 2: {error}") from None

    def close(self) -> None:
        """Take the node away; safe to call twice."""
        if self._context.ok():
            self._node.destroy_node()
            self._context.shutdown()


def topic_name(camera: str) -> str:
    """A camera's name as one part of a topic: ASCII letters, digits and "_", no digit first, no "__"."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", camera).strip("_")
    return name if name[:1].isalpha() else f"camera_{name}".rstrip("_")


def to_message(record: Record, grabbed_ns: int, messages: Any) -> Any:
    """A record as `Detection2DArray`.

    Args:
        record: its boxes, xyxy in pixels, become center and size; its track the detection's `id`.
        grabbed_ns: the header's stamp, nanoseconds of the ROS clock.
        messages: the module `vision_msgs.msg`.

    """
    array = messages.Detection2DArray()
    array.header.stamp.sec, array.header.stamp.nanosec = divmod(max(0, grabbed_ns), 1_000_000_000)
    array.header.frame_id = record["camera"]
    for found in record["detections"]:
        x1, y1, x2, y2 = found["box_xyxy"]
        detection = messages.Detection2D()
        detection.header = array.header
        detection.id = "" if found["track_id"] is None else str(found["track_id"])
        detection.bbox.center.position.x = (x1 + x2) / 2
        detection.bbox.center.position.y = (y1 + y2) / 2
        detection.bbox.size_x = float(x2 - x1)
        detection.bbox.size_y = float(y2 - y1)
        hypothesis = messages.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = found["class"]
        hypothesis.hypothesis.score = float(found["score"])
        detection.results.append(hypothesis)
        array.detections.append(detection)
    return array


def _open(node: str, context: OutputContext) -> list[Output]:
    return [Ros2Output(node)]


KIND = OutputKind(
    key="ros2",
    about="detections as vision_msgs/Detection2DArray, by a node of this name",
    settings=str,
    opens=_open,
    flags=(Flag("NODE", "Publish vision_msgs/Detection2DArray; needs rclpy."),),
    panel=NETWORK,
    example="swath",
    needs=Package("rclpy", "ROS 2: source its setup.bash, and install ros-$ROS_DISTRO-vision-msgs"),
)
