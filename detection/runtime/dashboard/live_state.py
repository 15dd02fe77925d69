"""`LiveState`: what the dashboard shows: the newest frame of every camera, ages, counts and events."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.runtime.dashboard.counts import Counts
from detection.runtime.detections import Detections, Frame
from detection.runtime.events import CameraStatus, Event
from detection.runtime.latency import Latency
from detection.runtime.outputs.contract import Record

LATE_S = 1.5
"""An image older than this is late; of a camera with longer intervals, one older than one and a half of them."""

_AGES = 1000
_BARS = 30
_EVENTS = 200
_FPS_WINDOW_NS = 3_000_000_000


@dataclass(frozen=True, eq=False)
class ShownFrame:
    """One frame and its detections.

    Attributes:
        frame, detections, record: as `Output.write` was given them.
        serial: 1, 2, 3, ... per camera in the order of arrival.

    """

    frame: Frame
    detections: Detections
    record: Record
    serial: int


class CameraState:
    """The state of one camera; `LiveState` holds the lock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.newest: ShownFrame | None = None
        self._status: str = CameraStatus.STARTING
        self._message = ""
        self._status_at_ns = 0
        self._came_ns: deque[int] = deque(maxlen=128)
        self.ages_ms: deque[float] = deque(maxlen=_AGES)

    def add_frame(self, frame: Frame, detections: Detections, record: Record, now_ns: int) -> None:
        """A frame; the camera is live if it was captured after the last event."""
        self.newest = ShownFrame(frame, detections, record, 1 + (self.newest.serial if self.newest else 0))
        self._came_ns.append(now_ns)
        self.ages_ms.append(record["age_ms"])
        if frame.captured_ns > self._status_at_ns and self._status != CameraStatus.LIVE:
            self._status, self._message = CameraStatus.LIVE, ""

    def add_event(self, event: Event) -> None:
        """An event of this camera."""
        self._status, self._message, self._status_at_ns = event.status, event.message, event.at_ns

    def _interval_s(self) -> float | None:
        """The usual time between two frames: the median, which a pause does not change."""
        if len(self._came_ns) < 2:
            return None
        return float(np.median(np.diff(np.array(self._came_ns)[-10:]))) / 1e9

    def late_after_s(self) -> float:
        """How old the newest frame gets at most while the camera works."""
        return max(LATE_S, 1.5 * (self._interval_s() or 0.0))

    def fps(self, now_ns: int) -> float:
        """Recent frames per second; 0.0 where none arrive any more."""
        if not self._came_ns or (now_ns - self._came_ns[-1]) / 1e9 > self.late_after_s():
            return 0.0
        recent = [at for at in self._came_ns if now_ns - at < _FPS_WINDOW_NS]
        if len(recent) > 3:
            return (len(recent) - 1) * 1e9 / max(recent[-1] - recent[0], 1)
        interval_s = self._interval_s()
        return 1 / interval_s if interval_s else 0.0

    def to_json(self, now_ns: int) -> dict[str, Any]:
        """The camera in /api/state."""
        shot = self.newest
        size_hw = None if shot is None else shot.frame.image.shape[:2]
        return {
            "name": self.name,
            "status": self._status,
            "message": self._message,
            "images": 0 if shot is None else shot.serial,
            "fps": round(self.fps(now_ns), 2),
            "age_s": None if shot is None else round((now_ns - shot.frame.captured_ns) / 1e9, 3),
            "late_after_s": round(self.late_after_s(), 3),
            "captured_ns": None if shot is None else shot.frame.captured_ns,
            "size_wh": None if size_hw is None else [size_hw[1], size_hw[0]],
            "found": 0 if shot is None else len(shot.detections),
            "counted": None if shot is None else shot.record["counted"],
            "age_ms": percentiles(np.array(self.ages_ms)),
        }


class LiveState:
    """The newest frame of every camera. Written by the pipeline's thread in microseconds, read by any thread.

    Args:
        class_names: by label.
        cameras: names known from the start, so that one that never delivered an image is shown too.

    """

    def __init__(self, class_names: Sequence[str], cameras: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._lock = threading.Lock()
        self._cameras = {name: CameraState(name) for name in cameras}
        self._counts = Counts(class_names)
        self._age_since_start = Latency()
        self._events: deque[tuple[int, Event]] = deque(maxlen=_EVENTS)
        self._last_event = 0
        self._started_ns = time.monotonic_ns()

    def add_frame(self, frame: Frame, detections: Detections, record: Record) -> None:
        """A frame: references are kept, nothing is copied; so nobody may write to its image afterwards."""
        now_ns = time.monotonic_ns()
        with self._lock:
            self._camera(frame.camera).add_frame(frame, detections, record, now_ns)
            self._age_since_start.add(record["age_ms"])
            self._counts.add(now_ns / 1e9, frame.camera, detections.labels, record["counted"])

    def add_event(self, event: Event) -> None:
        """An event of a camera, an output, the model or a recording."""
        with self._lock:
            self._last_event += 1
            self._events.append((self._last_event, event))
            if event.kind == "camera":
                self._camera(event.subject).add_event(event)

    def _camera(self, name: str) -> CameraState:
        return self._cameras.setdefault(name, CameraState(name))

    def newest(self) -> dict[str, ShownFrame]:
        """The newest frame of each camera that delivered one."""
        with self._lock:
            return {name: view.newest for name, view in self._cameras.items() if view.newest is not None}

    def events(self, after: int) -> list[dict[str, Any]]:
        """The events with a number above `after`, oldest first; the last 200 are kept."""
        with self._lock:
            return [{"id": number, **event.to_json()} for number, event in self._events if number > after]

    def to_json(self) -> dict[str, Any]:
        """Cameras, ages, counts and events in /api/state."""
        now_ns = time.monotonic_ns()
        with self._lock:
            ages = np.concatenate([np.array(view.ages_ms, float) for view in self._cameras.values()] or [np.zeros(0)])
            return {
                "running_s": round((now_ns - self._started_ns) / 1e9, 1),
                "cameras": [view.to_json(now_ns) for view in self._cameras.values()],
                "age_ms": {
                    "recent": {**percentiles(ages), "bars": histogram(ages)},
                    "since_start": self._age_since_start.summary_ms(),
                },
                "counted": self._counts.plants(),
                "counts": self._counts.to_json(now_ns / 1e9),
                "last_event": self._last_event,
            }


def percentiles(ages_ms: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """p50, p95, p99 (nearest rank) and max; None where there are none."""
    if not len(ages_ms):
        return dict.fromkeys(("p50", "p95", "p99", "max"))
    p50, p95, p99 = np.percentile(ages_ms, (50, 95, 99), method="inverted_cdf")
    return {k: round(float(v), 2) for k, v in (("p50", p50), ("p95", p95), ("p99", p99), ("max", ages_ms.max()))}


def histogram(ages_ms: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Bars of equal width from 0 on, and a last one for all above.

    Widths are 1, 2, 5, 10, ..., so that they change rarely and are easy to read.
    """
    if not len(ages_ms):
        return {"width_ms": 1.0, "counts": [0] * (_BARS + 1)}
    wanted = max(float(np.percentile(ages_ms, 99)) * 1.2 / _BARS, 0.1)
    ten = 10.0 ** np.floor(np.log10(wanted))
    width_ms = next(step * ten for step in (1, 2, 5, 10) if step * ten >= wanted * (1 - 1e-9))
    places = np.minimum((ages_ms / width_ms).astype(int), _BARS)
    return {"width_ms": float(round(width_ms, 3)), "counts": np.bincount(places, minlength=_BARS + 1).tolist()}
