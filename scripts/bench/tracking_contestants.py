"""The trackers that tracking.py compares with, in an interpreter of their own: those that it has.

Reads .npz files of detections, one a run (`rows` (N, 6): xyxy, score, label; `frames` (N,) of which frame;
`shifts` (F, 2) of the ground since frame 0 and `times_s` (F,)), answers with a JSON line a tracker and run: the
track of each row, -1 for none, and ms a frame. Each runs twice: on boxes as they are in the image, and on the
ground, where plants stand still.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Follow = Callable[[np.ndarray, float], list[int]]
"""(rows (N, 6), seconds since the start) -> the track of each row."""


def main() -> None:
    """Run all there are on every file."""
    makers = {name: make for name, (package, make) in TRACKERS.items() if importlib.util.find_spec(package)}
    if "trackers ByteTrack" in makers:
        makers.pop("supervision ByteTrack")  # it needs supervision too, of a version without trackers
    for path in sys.argv[1:]:
        run = np.load(path)
        for name, make in makers.items():
            for ground in (False, True):
                follow, tracks, took_ms = make(), [], []
                for frame, (shift, time_s) in enumerate(zip(run["shifts"], run["times_s"], strict=True)):
                    rows = run["rows"][run["frames"] == frame].copy()
                    if ground:
                        rows[:, :4] -= np.tile(shift, 2)
                    start = time.perf_counter()
                    tracks += follow(rows, float(time_s))
                    took_ms.append((time.perf_counter() - start) * 1e3)
                answer = {"run": path, "tracker": name, "ground": ground, "tracks": tracks}
                print(json.dumps(answer | {"ms": float(np.median(took_ms))}), flush=True)


def supervision_bytetrack() -> Follow:
    """ByteTrack of `supervision` 0.26."""
    import supervision

    tracker = supervision.ByteTrack(frame_rate=15, track_activation_threshold=0.3, minimum_consecutive_frames=1)
    return _roboflow(lambda found, time_s: tracker.update_with_detections(found))


def trackers_bytetrack() -> Follow:
    """ByteTrack of `trackers`."""
    import trackers

    tracker = trackers.ByteTrackTracker(
        frame_rate=15, track_activation_threshold=0.3, high_conf_det_threshold=0.5, minimum_consecutive_frames=1
    )
    return _roboflow(lambda found, time_s: tracker.update(found, timestamp=time_s))


def trackers_ocsort() -> Follow:
    """OC-SORT of `trackers`."""
    import trackers

    tracker = trackers.OCSORTTracker(
        frame_rate=15, minimum_iou_threshold=0.2, high_conf_det_threshold=0.3, minimum_consecutive_frames=1
    )
    return _roboflow(lambda found, time_s: tracker.update(found, timestamp=time_s))


def _roboflow(update: Callable[[Any, float], Any]) -> Follow:
    import supervision

    def follow(rows: np.ndarray, time_s: float) -> list[int]:
        found = supervision.Detections(
            xyxy=rows[:, :4].astype(np.float32),
            confidence=rows[:, 4].astype(np.float32),
            class_id=rows[:, 5].astype(int),
            data={"row": np.arange(len(rows))},
        )
        tracked = update(found, time_s)
        ids = [-1] * len(rows)
        if len(tracked) and tracked.tracker_id is not None:
            for row, track in zip(tracked.data["row"], tracked.tracker_id, strict=True):
                ids[int(row)] = int(track) + 1 if track >= 0 else -1
        return ids

    return follow


def norfair() -> Follow:
    """`norfair`, or its maintained fork `norfair-enough` under the same name."""
    import norfair

    tracker = norfair.Tracker(distance_function="iou", distance_threshold=0.8, initialization_delay=0)

    def follow(rows: np.ndarray, time_s: float) -> list[int]:
        found = [
            norfair.Detection(points=r[:4].reshape(2, 2), scores=np.full(2, r[4]), data=(time_s, i))
            for i, r in enumerate(rows)
        ]
        ids = [-1] * len(rows)
        for tracked in tracker.update(detections=found):
            seen_s, row = tracked.last_detection.data
            if seen_s == time_s and tracked.id is not None:
                ids[row] = int(tracked.id)
        return ids

    return follow


def edgefirst() -> Follow:
    """ByteTrack of `edgefirst-tracker`, in Rust."""
    from edgefirst.tracker import ByteTrack

    tracker = ByteTrack(high_conf=0.3, iou=0.2, lifespan_ns=1_000_000_000)
    numbers: dict[str, int] = {}

    def follow(rows: np.ndarray, time_s: float) -> list[int]:
        tracks = tracker.update(
            rows[:, :4].astype(np.float32),
            rows[:, 4].astype(np.float32),
            rows[:, 5].astype(np.uintp),
            int(time_s * 1e9),
        )
        return [-1 if t is None else numbers.setdefault(t.uuid, len(numbers) + 1) for t in tracks]

    return follow


TRACKERS: dict[str, tuple[str, Callable[[], Follow]]] = {
    "supervision ByteTrack": ("supervision", supervision_bytetrack),
    "trackers ByteTrack": ("trackers", trackers_bytetrack),
    "trackers OC-SORT": ("trackers", trackers_ocsort),
    "norfair": ("norfair", norfair),
    "edgefirst-tracker ByteTrack": ("edgefirst", edgefirst),
}

if __name__ == "__main__":
    main()
