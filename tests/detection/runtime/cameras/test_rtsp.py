"""Live streams from a real RTSP server on loopback, and everything that happens to them in a season."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from detection.runtime.cameras import connection
from detection.runtime.cameras.capture import Transport
from detection.runtime.cameras.sources import camera_settings, close_sources, open_source, open_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import SourceError
from detection.runtime.events import CameraStatus
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.pipeline import run_stream

# A loaded machine delays an image between its making and our look at it; a backlog would be seconds.
AGE_MS = 900
BACKOFF_CAP_S = 10


@pytest.fixture
def open_camera(told: Any) -> Any:
    """Opens a supervised camera; all are closed after the test, and leave no thread behind."""
    opened: list[Any] = []

    def open_one(url: str, **settings: Any) -> Any:
        opened.extend(open_sources([camera_settings(url, name="cam", **settings)], on_event=told))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_images_come_fresh_whole_and_once(
    rtsp_camera: Any, open_camera: Any, seen: Any, told: Any, transport: Transport
) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url, transport=transport)
    assert source.live and source.status is CameraStatus.STARTING
    assert seen.follow(source, lambda: len(seen.frames) >= 40)
    seen.check(age_ms=AGE_MS)
    assert told.statuses == ["starting", "live"] and source.status is CameraStatus.LIVE
    assert source.fps == 25
    # The stamp is the truth less a constant: the encoder, and the one image that the parser holds back.
    print(f"{transport}: true age when taken, ms: p50 {np.median(seen.age_ms):.0f}, max {max(seen.age_ms):.0f}")
    constant_ms = np.median(seen.stamp_error_ms)
    assert 0 < constant_ms < 200
    # What queued up while the stream was opened, 0.3 s of it, is not passed off as fresh: it is left out.
    assert seen.stamp_error_ms[0] < constant_ms + 150
    assert seen.frames[0].index <= 3 <= source.dropped
    stream_s = [f.stream_s for f in seen.frames]
    apart = np.diff(stream_s) - np.diff(seen.made_ms) / 1e3
    assert np.abs(apart).max() < 0.1  # the stream's own clock is the camera's
    source.close()
    assert told.statuses[-1] == "ended" and source.poll(0) is None


def test_a_stream_joined_late_starts_with_a_fresh_whole_image(rtsp_camera: Any, open_camera: Any, seen: Any) -> None:
    """One key frame in 3 s: who joins between two of them must see neither grey nor what queued up."""
    camera = rtsp_camera("--gop", "75")
    first = open_camera(camera.url)
    assert seen.follow(first, lambda: len(seen.frames) >= 10)
    second_seen = type(seen)()
    second = open_camera(camera.url)
    assert second_seen.follow(second, lambda: len(second_seen.frames) >= 10)
    second_seen.check(age_ms=AGE_MS)


def test_frozen_for_a_moment_it_goes_stale_and_on(rtsp_camera: Any, open_camera: Any, seen: Any, told: Any) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url)
    assert seen.follow(source, lambda: len(seen.frames) >= 15)
    camera.freeze(True)
    assert seen.follow(source, lambda: source.status is CameraStatus.STALE, within_s=10)
    camera.freeze(False)
    count = len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 15)
    assert told.statuses[:4] == ["starting", "live", "stale", "live"]
    seen.check(
        age_ms=AGE_MS + 1500
    )  # without max_age_s, what was on the way when it froze is given, with its true age
    assert max(seen.stamp_error_ms) < 400


def test_frozen_for_long_it_is_lost_and_comes_back(rtsp_camera: Any, open_camera: Any, seen: Any, told: Any) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url, read_timeout_s=2.0, max_age_s=0.5)
    assert seen.follow(source, lambda: len(seen.frames) >= 15)
    camera.freeze(True)
    frozen_s = time.monotonic()
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST, within_s=20)
    assert (
        1.7 < time.monotonic() - frozen_s < 3
    )  # read_timeout_s, and what was on the way; FFmpeg's takes 3 times that
    assert source.poll(0.01) is None  # away, and that is no error
    seen.follow(source, within_s=1)
    camera.freeze(False)
    thawed_s = time.monotonic()
    count = len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 15)
    assert seen.at_s[count] - thawed_s < BACKOFF_CAP_S + 2
    seen.check(age_ms=AGE_MS + 500)
    assert max(seen.stamp_error_ms) < 400
    assert [s for s in told.statuses if s != "stale"] == ["starting", "live", "lost", "live"]


def _restart(times: int, camera: Any, source: Any, seen: Any, told: Any, here: Any) -> list[float]:
    """Kill and start the server again and again; seconds from each start until the first image."""
    took_s = []
    threads = open_files = 0
    for round_ in range(times):
        assert seen.follow(source, lambda: source.status is CameraStatus.LIVE)
        count = len(seen.frames)
        assert seen.follow(source, lambda count=count: len(seen.frames) >= count + 5)
        if round_ == 1:
            threads, open_files = here.threads_of(" cam"), here.descriptors()
        camera.kill()
        assert seen.follow(source, lambda: source.status is CameraStatus.LOST)
        camera.start()
        started_s, count = time.monotonic(), len(seen.frames)
        assert seen.follow(source, lambda count=count: len(seen.frames) > count)
        took_s.append(seen.at_s[count] - started_s)
    assert told.count("lost") >= times and told.count("live") == times + 1
    assert seen.follow(source, lambda: here.threads_of(" cam") <= threads, within_s=10)
    assert here.descriptors() <= open_files + 2
    return took_s


def test_killed_and_restarted_it_comes_back(
    rtsp_camera: Any, open_camera: Any, seen: Any, told: Any, here: Any
) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url, max_age_s=0.5)
    took_s = _restart(3, camera, source, seen, told, here)
    seen.check(age_ms=AGE_MS + 500)
    print(f"seconds until the first image: {', '.join(f'{took:.2f}' for took in took_s)}")
    # A server is back within the first few waits: 0.5 + 1 + 2 s at most, and 2 s to open it.
    assert max(took_s) < 6
    source.close()
    assert seen.follow(source, lambda: here.threads_of(" cam") == 0, within_s=10)


@pytest.mark.slow
def test_restarted_fifty_times(rtsp_camera: Any, open_camera: Any, seen: Any, told: Any, here: Any) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url, max_age_s=0.5)
    took_s = _restart(50, camera, source, seen, told, here)
    seen.check(age_ms=AGE_MS + 500)
    print(f"seconds until the first image: median {np.median(took_s):.2f}, worst {max(took_s):.2f}")
    assert max(took_s) < 6


def test_delayed_images_tell_their_age(rtsp_camera: Any, relay: Any, open_camera: Any, seen: Any) -> None:
    """From some moment on all packets take 0.6 s longer: old images, though each came just now."""
    camera = rtsp_camera()
    between = relay(camera.port)
    source = open_camera(f"rtsp://127.0.0.1:{between.port}/cam")
    assert seen.follow(source, lambda: len(seen.frames) >= 20)
    between.delay_s = 0.6
    seen.follow(source, within_s=0.5)
    count = len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 30)
    assert np.median(seen.age_ms[-20:]) > 550  # they are delivered here, because no limit is set ...
    assert max(seen.stamp_error_ms) < 400  # ... and their stamp says what they are


def test_stream_that_stays_late_is_opened_again(
    rtsp_camera: Any, relay: Any, open_camera: Any, seen: Any, told: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(connection, "_TOO_LATE_FOR_S", 1.0)
    camera = rtsp_camera()
    between = relay(camera.port)
    source = open_camera(f"rtsp://127.0.0.1:{between.port}/cam", max_age_s=0.5)
    assert seen.follow(source, lambda: len(seen.frames) >= 20)
    between.delay_s = 1.5
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST)
    between.delay_s = 0.0
    assert "late by their own time stamps" in told.events[-1].message
    count = len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 15)
    seen.check(age_ms=AGE_MS)


def test_images_over_the_age_limit_are_dropped(rtsp_camera: Any, relay: Any, open_camera: Any, seen: Any) -> None:
    camera = rtsp_camera()
    between = relay(camera.port)
    source = open_camera(f"rtsp://127.0.0.1:{between.port}/cam", max_age_s=0.3)
    assert seen.follow(source, lambda: len(seen.frames) >= 20)
    before = source.dropped
    between.hold(True)
    seen.follow(source, within_s=2.0)
    between.hold(False)
    count = len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 20)
    assert source.dropped > before
    seen.check(age_ms=AGE_MS)


def test_half_open_connection_is_replaced(
    rtsp_camera: Any, relay: Any, open_camera: Any, seen: Any, told: Any
) -> None:
    """The server goes on, nothing of it arrives, and nobody says that the connection is gone."""
    camera = rtsp_camera()
    between = relay(camera.port)
    source = open_camera(f"rtsp://127.0.0.1:{between.port}/cam", read_timeout_s=1.5, max_age_s=0.5)
    assert seen.follow(source, lambda: len(seen.frames) >= 15)
    between.forget()
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST, within_s=20)
    lost_s, count = time.monotonic(), len(seen.frames)
    assert seen.follow(source, lambda: len(seen.frames) >= count + 15)
    assert seen.at_s[count] - lost_s < 0.5 + 2
    seen.check(age_ms=AGE_MS)
    assert [s for s in told.statuses if s != "stale"] == ["starting", "live", "lost", "live"]


def test_resolution_changed_in_mid_stream(rtsp_camera: Any, open_camera: Any, seen: Any, told: Any) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url)
    assert seen.follow(source, lambda: len(seen.frames) >= 10)
    for size in ((640, 480), (480, 360), (320, 240)):
        camera.resize(*size)
        count = len(seen.frames)
        assert seen.follow(source, lambda count=count: len(seen.frames) >= count + 20)
    # Every image whole and readable: OpenCV scales it to the size that the stream was opened with.
    seen.check(age_ms=AGE_MS)
    assert {f.image.shape for f in seen.frames} == {(240, 320, 3)}
    assert told.statuses == ["starting", "live"]
    camera.resize(640, 480)
    camera.kill()
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST)
    camera.start()
    camera.resize(640, 480)
    assert seen.follow(source, lambda: seen.frames[-1].image.shape == (480, 640, 3))
    seen.check(age_ms=AGE_MS + 500)


def test_wrong_password_is_said_without_it_and_retried_slowly(
    rtsp_camera: Any, open_camera: Any, seen: Any, told: Any
) -> None:
    camera = rtsp_camera("--user", "farm:right")
    source = open_camera(f"rtsp://farm:wr0ng@{camera.address}")
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST)
    assert "refuses user or password (401)" in told.events[-1].message
    assert "wr0ng" not in repr(told.events) and "farm" not in repr(told.events)
    seen.follow(source, within_s=1.5)
    assert source.connections == 1 and not seen.frames
    with pytest.raises(SourceError, match=r"refuses user or password \(401\)") as error:
        open_source(f"rtsp://farm:wr0ng@{camera.address}")
    assert "wr0ng" not in str(error.value)
    right = open_camera(f"rtsp://farm:right@{camera.address}")
    assert seen.follow(right, lambda: len(seen.frames) >= 5)


def test_unknown_stream_and_nobody_there_are_said(rtsp_camera: Any) -> None:
    camera = rtsp_camera()
    with pytest.raises(SourceError, match=r"knows no stream of this path \(404\)"):
        open_source(f"rtsp://127.0.0.1:{camera.port}/nothing")
    camera.kill()
    with pytest.raises(SourceError, match="nothing listens there"):
        open_source(camera.url)


def test_camera_that_is_off_at_the_start_comes_later(
    rtsp_camera: Any, open_camera: Any, seen: Any, told: Any
) -> None:
    camera = rtsp_camera()
    camera.kill()
    started_s = time.monotonic()
    source = open_camera(camera.url)
    assert time.monotonic() - started_s < 1 and source.fps is None
    assert seen.follow(source, lambda: source.status is CameraStatus.LOST)
    assert "nothing listens there" in told.events[-1].message
    camera.start()
    assert seen.follow(source, lambda: len(seen.frames) >= 5)
    assert source.fps == 25


def test_at_most_so_many_images_a_second(rtsp_camera: Any, open_camera: Any, seen: Any) -> None:
    camera = rtsp_camera()
    source = open_camera(camera.url, max_fps=10)
    assert seen.follow(source, lambda: len(seen.frames) >= 16)
    seconds = (seen.made_ms[-1] - seen.made_ms[0]) / 1e3
    assert 7 < (len(seen.frames) - 1) / seconds < 10.5
    assert [f.index for f in seen.frames] == sorted({f.index for f in seen.frames})


def test_slow_and_dead_cameras_take_nothing_from_the_others(
    rtsp_camera: Any, relay: Any, detector: Detector, told: Any
) -> None:
    """Four cameras through the stream: two of 25 images a second, one of 1, and one that never answers."""

    class Counted(Output):
        def __init__(self) -> None:
            self.of: dict[str, int] = {}

        def write(self, frame: Frame, detections: Detections, record: Record) -> None:
            self.of[frame.camera] = self.of.get(frame.camera, 0) + 1

        def close(self) -> None:
            pass

    fast, slow = rtsp_camera(), rtsp_camera("--fps", "1", "--gop", "1")
    dead = relay(fast.port)
    dead.hold(True)
    urls = {"left": fast.url, "right": fast.url, "slow": slow.url, "dead": f"rtsp://127.0.0.1:{dead.port}/cam"}
    sources = open_sources([camera_settings(url, name=name) for name, url in urls.items()], on_event=told)
    stop, counted = threading.Event(), Counted()
    stream = threading.Thread(target=run_stream, args=(detector, sources, [counted]), kwargs={"stop": stop})
    stream.start()
    try:
        deadline_s = time.monotonic() + 60
        while not {"left", "right", "slow"} <= counted.of.keys() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        before, started_s = dict(counted.of), time.monotonic()
        time.sleep(4)
        seconds = time.monotonic() - started_s
        counts = {name: counted.of.get(name, 0) - before.get(name, 0) for name in urls}
        print(", ".join(f"{name} {count / seconds:.2f}/s" for name, count in counts.items()))
        assert counts["left"] >= 0.95 * 25 * seconds - 1 and counts["right"] >= 0.95 * 25 * seconds - 1, counts
        assert counts["slow"] >= 3 and counts["dead"] == 0
        statuses = {source.camera: source.status for source in sources}
        assert statuses["left"] is statuses["right"] is statuses["slow"] is CameraStatus.LIVE
        assert statuses["dead"] in (CameraStatus.STARTING, CameraStatus.LOST)
    finally:
        stop.set()
        stream.join(20)
        close_sources(sources)
    assert not stream.is_alive()
