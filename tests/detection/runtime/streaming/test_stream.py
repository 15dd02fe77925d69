from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import open_source, open_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import OutputError, SourceError
from detection.runtime.latency import Latency
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.pipeline import STAGES, run_stream


class Kept(Output):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        assert len(detections) == len(record["detections"])
        self.records.append(record)

    def close(self) -> None:
        pass


class Scripted(Source):
    """Gives frames and Nones as scripted; an exception in the script is raised."""

    live = True
    fps = None
    length = None

    def __init__(self, camera: str, script: list[Any]) -> None:
        self.camera = camera
        self.script = script
        self.dropped = 3
        self.unreadable = 1
        self.ended = False
        self.timeouts: list[float] = []

    def poll(self, timeout_s: float) -> Frame | None:
        self.timeouts.append(timeout_s)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, Exception):
            self.ended = True
            raise step
        self.ended = not self.script
        if step is None:
            return None
        return Frame(np.zeros((64, 96, 3), np.uint8), self.camera, step, time.monotonic_ns())

    def close(self) -> None:
        self.ended = True


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
        assert list(record["latency_ms"]) == list(STAGES[:-1])
        assert sum(record["latency_ms"].values()) == pytest.approx(record["age_ms"], abs=0.01)
        assert 0 < record["age_ms"] < 2000
    assert (summary.frames, summary.dropped, summary.unreadable, summary.detections) == (30, 0, 0, 30)
    assert summary.failures == () and summary.fps > 1
    assert list(summary.latency_ms) == list(STAGES)
    for stage in summary.latency_ms.values():
        assert 0 <= stage["p50"] <= stage["p95"] <= stage["p99"] <= stage["max"]
    assert summary.age_ms["max"] == pytest.approx(max(r["age_ms"] for r in kept.records), abs=0.001)


def test_sources_take_turns(detector: Detector, tmp_path: Path, make_video: Any) -> None:
    kept = Kept()
    sources = open_sources([make_video(tmp_path / "a.mp4", 3), make_video(tmp_path / "b.mp4", 6)])
    summary = run_stream(detector, sources, [kept])
    for source in sources:
        source.close()
    assert "".join(r["camera"] for r in kept.records) == "abababbbb"
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


def test_stop_event_ends_it_after_the_frame_at_work(detector: Detector) -> None:
    stop = threading.Event()
    kept = Kept()

    def on_progress(frame: Frame, detections: Detections, record: Record) -> None:
        if frame.index == 4:
            stop.set()

    source = Scripted("a", list(range(100)))
    summary = run_stream(detector, [source], [kept], stop=stop, on_progress=on_progress)
    assert summary.frames == 5 == len(kept.records) and summary.failures == ()


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


# --- percentiles ---


def test_percentiles_are_right_to_one_percent() -> None:
    rng = np.random.default_rng(0)
    durations = rng.lognormal(3, 1, 5000)
    latency = Latency()
    for duration in durations:
        latency.add(float(duration))
    for percent in (1, 50, 95, 99, 100):
        exact = np.percentile(durations, percent, method="inverted_cdf")
        assert exact * 0.999 <= latency.percentile_ms(percent) <= exact * 1.0101
    assert latency.max_ms == durations.max() and latency.count == 5000
    assert latency.sum_ms == pytest.approx(durations.sum())


@pytest.mark.parametrize("duration", [0.0, 1e-9, 5.0, 1e12])
def test_percentiles_of_one(duration: float) -> None:
    latency = Latency()
    latency.add(duration)
    assert latency.max_ms == duration
    assert latency.percentile_ms(50) <= latency.percentile_ms(99) <= max(duration, 0.0)
    if duration == 5.0:
        assert latency.percentile_ms(50) == 5.0


def test_a_rare_spike_is_seen_in_max_alone() -> None:
    latency = Latency()
    for _ in range(999):
        latency.add(10)
    latency.add(900)
    summary = latency.summary_ms()
    assert summary["p50"] == summary["p99"] == pytest.approx(10, rel=0.011)
    assert summary["max"] == 900
