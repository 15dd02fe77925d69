"""What Foxglove shows: images, boxes over them, a log; as JSON messages.

Fields and names as documented at https://docs.foxglove.dev/docs/sdk/schemas (CompressedImage,
ImageAnnotations, Log); the schemas below describe what is written here and name what theirs require.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detection.runtime.events import Event

Json = dict[str, Any]

_LINE_LOOP = 2  # of PointsAnnotationType
_INFO, _WARNING, _ERROR = 2, 3, 4  # of LogLevel
_LEVELS = {"lost": _ERROR, "refused": _ERROR, "failed": _ERROR, "stale": _WARNING, "behind": _WARNING}


def _object(title: str, **properties: Json) -> Json:
    return {"type": "object", "title": title, "properties": properties, "required": list(properties)}


def _array(items: Json) -> Json:
    return {"type": "array", "items": items}


_NUMBER, _INTEGER, _TEXT = {"type": "number"}, {"type": "integer"}, {"type": "string"}
_TIME = _object("time", sec={"type": "integer", "minimum": 0}, nsec={"type": "integer", "minimum": 0})
_COLOUR = _object("foxglove.Color", r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)
_POINT = _object("foxglove.Point2", x=_NUMBER, y=_NUMBER)
_PAIRS = _array(_object("foxglove.KeyValuePair", key=_TEXT, value=_TEXT))

COMPRESSED_IMAGE = _object(
    "foxglove.CompressedImage",
    timestamp=_TIME,
    frame_id=_TEXT,
    data={"type": "string", "contentEncoding": "base64"},
    format=_TEXT,
)
IMAGE_ANNOTATIONS = _object(
    "foxglove.ImageAnnotations",
    circles=_array({"type": "object", "title": "foxglove.CircleAnnotation"}),
    points=_array(
        _object(
            "foxglove.PointsAnnotation",
            timestamp=_TIME,
            type=_INTEGER,
            points=_array(_POINT),
            outline_color=_COLOUR,
            outline_colors=_array(_COLOUR),
            fill_color=_COLOUR,
            thickness=_NUMBER,
            metadata=_PAIRS,
        )
    ),
    texts=_array(
        _object(
            "foxglove.TextAnnotation",
            timestamp=_TIME,
            position=_POINT,
            text=_TEXT,
            font_size=_NUMBER,
            text_color=_COLOUR,
            background_color=_COLOUR,
            metadata=_PAIRS,
        )
    ),
)
LOG = _object("foxglove.Log", timestamp=_TIME, level=_INTEGER, message=_TEXT, name=_TEXT, file=_TEXT, line=_INTEGER)
RECORD = _object(
    "swath.Record",
    schema=_INTEGER,
    camera=_TEXT,
    frame=_INTEGER,
    captured_ns=_INTEGER,
    age_ms=_NUMBER,
    latency_ms={"type": "object", "additionalProperties": _NUMBER},
    stream_s={"type": ["number", "null"]},
    counted={"type": ["object", "null"], "additionalProperties": _INTEGER},
    detections=_array(
        _object(
            "swath.FoundObject",
            box_xyxy=_array(_NUMBER),
            score=_NUMBER,
            label=_INTEGER,
            **{"class": _TEXT},
            track_id={"type": ["integer", "null"]},
        )
    ),
)
"""Of the record as it stands in the JSON lines."""


def compressed_image(image_bgr: NDArray[np.uint8], camera: str, unix_ns: int, jpeg_quality: int) -> Json:
    """The image as JPEG.

    Raises:
        OutputError: OpenCV cannot encode it.

    """
    import cv2

    done, jpeg = cv2.imencode(".jpg", image_bgr, (cv2.IMWRITE_JPEG_QUALITY, jpeg_quality))
    if not done:
        raise OutputError(f"{camera}: an image of shape {image_bgr.shape} cannot be written as JPEG")
    data = base64.b64encode(jpeg.tobytes()).decode()
    return {"timestamp": _time(unix_ns), "frame_id": camera, "data": data, "format": "jpeg"}


def image_annotations(record: Record, height: int, unix_ns: int) -> Json:
    """A box and a text for each detection; `height` of the image in pixels sets their size."""
    when = _time(unix_ns)
    line_px, text_px = max(2.0, height / 300), max(11.0, height / 40)
    points, texts = [], []
    for found in record["detections"]:
        x1, y1, x2, y2 = found["box_xyxy"]
        colour = _colour(found["label"])
        track = "" if found["track_id"] is None else f"#{found['track_id']} "
        points.append(
            {
                "timestamp": when,
                "type": _LINE_LOOP,
                "points": [{"x": x, "y": y} for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))],
                "outline_color": colour,
                "outline_colors": [],
                "fill_color": {**colour, "a": 0.0},
                "thickness": line_px,
                "metadata": [],
            }
        )
        texts.append(
            {
                "timestamp": when,
                "position": {"x": x1, "y": y1},  # of its bottom left corner
                "text": f"{track}{found['class']} {found['score']:.2f}",
                "font_size": text_px,
                "text_color": {"r": 0.0, "g": 0.0, "b": 0.0, "a": 1.0},
                "background_color": colour,
                "metadata": [],
            }
        )
    return {"circles": [], "points": points, "texts": texts}


def log(event: Event) -> Json:
    """An event as a line of the log."""
    return {
        "timestamp": _time(round(event.at_unix_s * 1e9)),
        "level": _LEVELS.get(event.status, _INFO),
        "message": f"{event.status}: {event.message}" if event.message else event.status,
        "name": f"{event.kind} {event.subject}",
        "file": "",
        "line": 0,
    }


def _time(unix_ns: int) -> Json:
    return {"sec": unix_ns // 10**9, "nsec": unix_ns % 10**9}


def _colour(label: int) -> Json:
    from detection.runtime.draw import class_colour

    blue, green, red = (value / 255 for value in class_colour(label))
    return {"r": red, "g": green, "b": blue, "a": 1.0}
