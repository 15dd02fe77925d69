from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.backends.contract import Raw
from detection.runtime.cameras.sources import open_source, open_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import OutputError, SourceError
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Record
from detection.runtime.streaming.options import EventQueue, StreamOptions
from detection.runtime.streaming.pipeline import run_stream
from detection.runtime.streaming.slices import FrameSlicer
from detection.runtime.streaming.summary import STAGES
from tests.detection.runtime.streaming.scripted import Kept, Scripted


def test_video_end_to_end_with_exact_values(detector: Detector, video_path: Path) -> None:
    kept = Kept()
    with open_source(video_path) as source:
        summary = run_stream(detector, [source], [kept])
    assert [r["frame"] for r in kept.records] == list(range(30))
    for record in kept.records:
        assert record["schema"] == 1 and record["camera"] == "field"
        (found,) = record["detections"]
        i = record["frame"]
        np.testing.assert_allclose(found["box_xyxy"], [i, 16, i + 16, 32], atol=2)  # the video is lossy
        assert (found["label"], found["class"], found["track_id"]) == (0, "weed", None)
        assert found["score"] > 0.7
        # The stages add up to the age.
        assert list(record["latency_ms"]) == ["source", "prepare", "wait", "infer", "finish"]
        assert sum(record["latency_ms"].values()) == pytest.approx(record["age_ms"], abs=0.01)
        assert 0 < record["age_ms"] < 2000
    assert (summary.frames, summary.dropped, summary.unreadable, summary.detections) == (30, 0, 0, 30)
    assert summary.failures == () and summary.fps > 1
    assert list(summary.latency_ms) == [stage for stage in STAGES if stage != "track"]
    for stage in summary.latency_ms.values():
        assert 0 <= stage["p50"] <= stage["p95"] <= stage["p99"] <= stage["max"]
    assert summary.age_ms["max"] == pytest.approx(max(r["age_ms"] for r in kept.records), abs=0.001)


def test_every_image_of_several_recordings_in_order(detector: Detector, tmp_path: Path, make_video: Any) -> None:
    kept = Kept()
    sources = open_sources([make_video(tmp_path / "a.mp4", 3), make_video(tmp_path / "b.mp4", 6)])
    summary = run_stream(detector, sources, [kept])
    for source in sources:
        source.close()
    for camera, frames in (("a", 3), ("b", 6)):
        assert [r["frame"] for r in kept.records if r["camera"] == camera] == list(range(frames))
    assert [(c.camera, c.frames, c.failure) for c in summary.cameras] == [("a", 3, None), ("b", 6, None)]


def test_slow_source_does_not_keep_others_waiting(detector: Detector) -> None:
    slow = Scripted("slow", [None] * 50 + [0])
    fast = Scripted("fast", list(range(20)))
    kept = Kept()
    run_stream(detector, [slow, fast], [kept])
    assert [r["camera"] for r in kept.records] == ["fast"] * 20 + ["slow"]
    assert set(fast.timeouts) == {0.0}
    assert max(slow.timeouts) > 0  # alone at the end, it is waited for without spinning


def test_failing_source_is_said_and_does_not_stop_the_others(detector: Detector, caplog: Any) -> None:
    kept = Kept()
    sources = [Scripted("good", [0, 1, 2, 3]), Scripted("bad", [0, SourceError("bad: cable pulled")])]
    summary = run_stream(detector, sources, [kept])
    assert [r["camera"] for r in kept.records] == ["good", "bad", "good", "good", "good"]
    assert summary.failures == ("bad: cable pulled",)
    assert [c.failure for c in summary.cameras] == [None, "bad: cable pulled"]
    assert (summary.dropped, summary.unreadable) == (6, 2)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("ERROR", "bad: cable pulled")]


def test_only_sources_that_fail_at_once(detector: Detector) -> None:
    summary = run_stream(detector, [Scripted("bad", [SourceError("gone")])], [])
    assert summary.frames == 0 and summary.fps == 0 and summary.failures == ("gone",)
    assert summary.age_ms == {"p50": 0, "p95": 0, "p99": 0, "max": 0}


def test_no_source_at_all(detector: Detector) -> None:
    assert run_stream(detector, [], []).frames == 0


def test_max_frames_counts_over_all_sources(detector: Detector) -> None:
    kept = Kept()
    sources = [Scripted("a", list(range(9))), Scripted("b", list(range(9)))]
    assert run_stream(detector, sources, [kept], max_frames=5).frames == 5 == len(kept.records)


def test_stop_event_ends_it_and_what_the_network_has_seen_is_still_written(detector: Detector) -> None:
    stop = threading.Event()
    kept = Kept()

    def on_progress(frame: Frame, detections: Detections, record: Record) -> None:
        if frame.index == 4:
            stop.set()

    source = Scripted("a", list(range(100)))
    summary = run_stream(detector, [source], [kept], stop=stop, on_progress=on_progress)
    # One waits for the outputs, one is in the network, one was handed over meanwhile.
    assert 5 <= summary.frames <= 8 and summary.failures == ()
    assert [r["frame"] for r in kept.records] == list(range(summary.frames))


def test_stop_event_ends_a_wait_for_a_silent_camera(detector: Detector) -> None:
    class Silent(Scripted):
        def poll(self, timeout_s: float) -> Frame | None:
            time.sleep(timeout_s)
            return None

    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    started = time.monotonic()
    run_stream(detector, [Silent("a", [])], [], stop=stop)
    assert time.monotonic() - started < 2


def test_output_that_fails_ends_the_run_loudly(detector: Detector) -> None:
    class Broken(Kept):
        def write(self, frame: Frame, detections: Detections, record: Record) -> None:
            raise OutputError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        run_stream(detector, [Scripted("a", [0, 1])], [Broken()])


def test_live_camera_through_the_stream(detector: Detector, camera_server: Any) -> None:
    class Slow(Kept):
        def write(self, frame: Frame, detections: Detections, record: Record) -> None:
            super().write(frame, detections, record)
            time.sleep(0.08)

    kept = Slow()
    with open_source(f"http://{camera_server.address}/cam") as source:
        summary = run_stream(detector, [source], [kept], max_frames=6)
    indices = [r["frame"] for r in kept.records]
    assert len(indices) == 6 and indices == sorted(set(indices))
    assert summary.dropped >= 5  # the outputs take eight times as long as the camera
    assert summary.age_ms["p50"] < 500  # yet what comes out is fresh


# --- what may be asked for beside ---


class Events(Kept):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def event(self, event: Event) -> None:
        self.told.append(event.status)


@pytest.mark.serial
def test_recordings_are_decoded_while_the_network_works(detector: Detector) -> None:
    """Two threads that each take 20 ms an image take 20 ms an image together, not 40."""

    class Slow(Scripted):
        live = False

        def poll(self, timeout_s: float) -> Frame | None:
            time.sleep(0.02)
            return super().poll(timeout_s)

    class Busy(Kept):
        def write(self, frame: Frame, detections: Detections, record: Record) -> None:
            time.sleep(0.02)
            super().write(frame, detections, record)

    kept = Busy()
    started = time.monotonic()
    run_stream(detector, [Slow("a", list(range(40)))], [kept])
    assert [r["frame"] for r in kept.records] == list(range(40))
    assert time.monotonic() - started < 40 * 0.036


def test_region_and_tracks_by_camera(detector: Detector, video_path: Path) -> None:
    class Numbered:
        counted: dict[str, int] = {}
        low_score_thresholds = np.float32([0.0])

        def update(self, frame: Frame, detections: Detections, low_score: Detections) -> Detections:
            self.counted = {"weed": frame.index + 1}
            ids = np.full(len(detections), 7, np.int64)
            return Detections(detections.boxes_xyxy, detections.scores, detections.labels, ids)

    kept = Kept()
    with open_source(video_path) as source:
        # the square stands at x = frame, 16 wide: from frame 25 on it is not wholly in the region
        slicers = {"field": FrameSlicer((0, 8, 40, 40))}
        run_stream(detector, [source], [kept], StreamOptions(slicers=slicers, trackers={"field": Numbered()}))
    (found,) = kept.records[10]["detections"]
    np.testing.assert_allclose(found["box_xyxy"], [10, 16, 26, 32], atol=2)
    assert found["track_id"] == 7 and kept.records[10]["counted"] == {"weed": 11}
    (found,) = kept.records[29]["detections"]
    np.testing.assert_allclose(found["box_xyxy"], [29, 16, 40, 32], atol=2)
    assert "track" in kept.records[0]["latency_ms"]


def test_a_tracker_hears_of_boxes_that_nobody_else_is_told_of(detector: Detector, video_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    class Listening:
        counted: dict[str, int] = {}
        low_score_thresholds = np.float32([0.0])

        def update(self, frame: Frame, detections: Detections, low_score: Detections) -> Detections:
            heard.append((len(detections), len(low_score)))
            return detections

    kept = Kept()
    for threshold in (0.0, 1.0):
        detector.set_score_thresholds(threshold)
        with open_source(video_path) as source:
            run_stream(detector, [source], [kept], StreamOptions(trackers={"field": Listening()}), max_frames=1)
    assert heard == [(1, 0), (0, 1)]
    assert [len(record["detections"]) for record in kept.records] == [1, 0]


class Aged(Scripted):
    """Its frames are as many seconds old as scripted when they come."""

    def poll(self, timeout_s: float) -> Frame | None:
        frame = super().poll(timeout_s)
        if frame is None:
            return None
        return Frame(frame.image, self.camera, frame.index, time.monotonic_ns() - frame.index * 10**9)


def test_live_images_that_are_too_old_are_counted_and_not_told(detector: Detector) -> None:
    kept = Kept()
    summary = run_stream(detector, [Aged("a", [0, 9, 0, 7])], [kept], StreamOptions(max_age_s=5))
    assert [r["frame"] for r in kept.records] == [0, 0]
    assert (summary.frames, summary.too_old) == (2, 2)


def test_a_image_that_grew_too_old_in_the_network_is_not_told(model_path: Path) -> None:
    class Hanging(Detector):
        def infer(self, pixels_rgb: np.ndarray) -> Raw:
            time.sleep(0.3)
            return super().infer(pixels_rgb)

    kept = Kept()
    summary = run_stream(Hanging(model_path, threads=1), [Aged("a", [0])], [kept], StreamOptions(max_age_s=0.25))
    assert kept.records == [] and summary.cameras[0].too_old == 1


def test_a_recording_is_never_too_old(detector: Detector) -> None:
    recorded = Aged("a", [0, 9])
    recorded.live = False
    assert run_stream(detector, [recorded], [], StreamOptions(max_age_s=1)).frames == 2


def test_events_reach_every_output_even_where_no_image_comes(detector: Detector) -> None:
    box, stop, kept = EventQueue(), threading.Event(), Events()

    class Silent(Scripted):
        def poll(self, timeout_s: float) -> Frame | None:
            box.put(Event("camera", "a", "lost"))
            stop.set()
            return None

    run_stream(detector, [Silent("a", [])], [kept], StreamOptions(events=box), stop=stop)
    assert kept.told == ["lost"]


@pytest.mark.serial
def test_cameras_share_a_run_of_the_network_where_that_pays(model_path: Path) -> None:
    class Wide(Detector):
        """As on a GPU: a batch takes as long as an image."""

        sizes: list[int] = []

        def infer(self, pixels_rgb: np.ndarray) -> Raw:
            self.sizes.append(len(pixels_rgb))
            time.sleep(0.01)
            return super().infer(pixels_rgb)

    detector, kept = Wide(model_path, threads=1), Kept()
    cameras = [Scripted(name, list(range(6))) for name in "abcd"]
    run_stream(detector, cameras, [kept], StreamOptions(batch_wait_s=0.5))
    streamed = detector.sizes[-6:]
    assert streamed == [4] * 6
    for name in "abcd":
        assert [r["frame"] for r in kept.records if r["camera"] == name] == list(range(6))


def test_the_heart_beats_while_no_image_comes(detector: Detector) -> None:
    beats, stop = [], threading.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 5:
            stop.set()

    class Silent(Scripted):
        def poll(self, timeout_s: float) -> Frame | None:
            time.sleep(timeout_s)
            return None

    run_stream(detector, [Silent("a", [])], [], StreamOptions(heartbeat=beat), stop=stop)
    assert len(beats) == 5


def test_threads_are_gone_afterwards(detector: Detector, video_path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        with open_source(video_path) as source:
            run_stream(detector, [source], [Kept()], max_frames=4)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_without_an_answer_is_counted_and_published_as_an_event_never_as_an_empty_record(
    tiny: Any, tmp_path: Path, make_image: Any, value: float
) -> None:
    blue = make_image(box=(30, 10, 50, 20))
    blue[0, 0, 0] = 255
    images = [make_image(box=(30, 10, 50, 20)), blue, blue, make_image(), blue]
    frames = [Frame(image, "a", index, time.monotonic_ns()) for index, image in enumerate(images)]
    model = tiny.write(tmp_path / "m.onnx", faulty_if_blue=value)
    kept, events = Kept(), list[Event]()
    summary = run_stream(
        Detector(model, threads=1), [Scripted("a", frames)], [kept], StreamOptions(listener=events.append)
    )
    assert [(r["frame"], len(r["detections"])) for r in kept.records] == [(0, 1), (3, 0)]
    assert (summary.frames, summary.faulty, summary.to_json()["faulty"]) == (2, 3, 3)
    assert [(e.kind, e.subject, e.status) for e in events] == [
        ("model", str(model), status) for status in ("faulty", "recovered", "faulty")
    ]
    assert "a, image 1: the model gave numbers that are not finite" in events[0].message and events[0].is_warning
    assert "after 2 images without" in events[1].message
