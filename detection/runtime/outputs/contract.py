"""`Output`: the interface of everything that receives detections, and `Record`, what is published of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict

from detection.runtime.closing import Closing
from detection.runtime.outputs.naming import plain

if TYPE_CHECKING:  # the commands' help is derived from the outputs, and must not wait for numpy
    from detection.runtime.detections import Detections, Frame
    from detection.runtime.events import Event

RECORD_SCHEMA = 1
"""Version of the JSON lines; increased when a key changes its meaning or is removed."""

FoundObject = TypedDict(
    "FoundObject",
    {"box_xyxy": list[float], "score": float, "label": int, "class": str, "track_id": int | None},
)
"""One detection of a record: `box_xyxy` in pixels of the camera's image, to 0.01."""


class Record(TypedDict):
    """What is published of one frame; the JSON line.

    `captured_ns` is the monotonic clock of this machine when the image was grabbed. `age_ms` is
    how old the image was when this record was made. `latency_ms` says where that time went.
    `stream_s` is the stream's own clock (`Frame.stream_s`). `counted` says how many plants of each
    class this camera has seen so far, each once; None where nothing is tracked.
    """

    schema: int
    camera: str
    frame: int
    captured_ns: int
    age_ms: float
    latency_ms: dict[str, float]
    stream_s: float | None
    counted: dict[str, int] | None
    detections: list[FoundObject]


class Output(Closing, Protocol):
    """Receives every frame's detections, and events; a context manager.

    Attributes:
        needs_image: whether it reads the pixels. Where not, frames in its queue (`Queued`) do not keep them: it
            receives a black image of the same size.
        camera: takes this camera's frames only; None takes all.
        url: what a person opens in a browser to see it; None where there is nothing to open.

    """

    needs_image: bool = True
    camera: str | None = None
    url: str | None = None

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Take one frame.

        Raises:
            OutputError: it cannot be written.

        """

    def event(self, event: Event) -> None:
        """Take an event; an output without a place for events ignores it.

        May be called before the first frame, and from the pipeline's thread only.
        """
        return None

    def close(self) -> None:
        """Finish what was written, so that it is complete; safe to call twice."""


def make_record(
    frame: Frame,
    detections: Detections,
    class_names: Sequence[str],
    *,
    age_ms: float,
    latency_ms: dict[str, float],
    counted: dict[str, int] | None = None,
) -> Record:
    """The record of a frame, with numbers rounded to a useful precision."""
    tracks = detections.track_ids
    return {
        "schema": RECORD_SCHEMA,
        "camera": frame.camera,
        "frame": frame.index,
        "captured_ns": frame.captured_ns,
        "age_ms": round(age_ms, 3),
        "latency_ms": {stage: round(ms, 3) for stage, ms in latency_ms.items()},
        "stream_s": frame.stream_s,
        "counted": counted,
        "detections": [
            {
                "box_xyxy": [round(v, 2) for v in box],
                "score": round(score, 4),
                "label": label,
                "class": class_names[label],
                "track_id": None if tracks is None or tracks[i] < 1 else int(tracks[i]),
            }
            # tolist: Python's own numbers, many times faster to round than numpy's.
            for i, (box, score, label) in enumerate(
                zip(
                    detections.boxes_xyxy.tolist(),
                    detections.scores.tolist(),
                    detections.labels.tolist(),
                    strict=True,
                )
            )
        ],
    }


def per_camera(path: Path, camera: str) -> Path:
    """`field.mp4` and camera "left" -> `field-left.mp4`; what no file name may hold becomes "_"."""
    return path.with_name(f"{path.stem}-{plain(camera)}{path.suffix}")
