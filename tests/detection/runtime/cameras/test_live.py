from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.cameras import live
from detection.runtime.cameras.connection import Opened, RefusedError
from detection.runtime.cameras.live import LiveSource
from detection.runtime.cameras.sources import camera_settings, close_sources, open_source, open_sources
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError
from detection.runtime.events import CameraStatus

# --- MJPEG over HTTP, not supervised ---


def test_http_camera_newest_wins_with_a_slow_consumer(camera_server: Any) -> None:
    started = time.monotonic_ns()
    with open_source(f"http://u:p@{camera_server.address}/cam") as source:
        assert source.live and source.length is None and source.camera == f"{camera_server.address}/cam"
        frames: list[Frame] = []
        ages_ms = []
        for frame in source:
            frames.append(frame)
            ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
            time.sleep(0.1)  # ten times slower than the camera
            if len(frames) == 8:
                break
        # The image itself says which one it is: the camera counts in grey levels.
        shown = [int(f.image[0, 0, 0]) for f in frames]
        assert all(abs(level - f.index % 250) <= 1 for level, f in zip(shown, frames, strict=True))
        gaps = np.diff([f.index for f in frames])
        assert gaps.min() >= 1 and gaps.mean() > 2
        assert np.median(ages_ms) < 500  # bounded: no queue builds up
        assert source.dropped >= gaps.sum() - len(gaps) > 5
        assert {f.stream_s for f in frames} == {None}  # MJPEG has no clock; FFmpeg would make one up
    assert started < frames[0].captured_ns < frames[-1].captured_ns
    assert source.ended and source.status is CameraStatus.ENDED
    assert _gone(source.camera)


def test_fast_consumer_gets_no_frame_twice(camera_server: Any) -> None:
    with open_source(f"http://{camera_server.address}/cam") as source:
        indices = [frame.index for frame, _ in zip(source, range(30), strict=False)]
    assert len(indices) == 30 and len(set(indices)) == 30 and indices == sorted(indices)


def test_camera_that_dies_gives_its_last_images_and_an_error(camera_server: Any) -> None:
    camera_server.frames = 15
    seen = []
    with open_source(f"http://{camera_server.address}/cam") as source:
        with pytest.raises(SourceError, match="no more images after 15") as error:
            for frame in source:
                seen.append(frame.index)
        assert source.ended and source.poll(0) is None
    assert "\n" not in str(error.value)
    assert seen[-1] == 14


def test_camera_that_hangs_is_an_error_within_its_timeout(camera_server: Any) -> None:
    camera_server.frames, camera_server.hang_s = 10, 30.0
    started = time.monotonic()
    with (
        open_source(camera_settings(f"http://{camera_server.address}/cam", read_timeout_s=1.0)) as source,
        pytest.raises(SourceError, match="no more images after 10"),
    ):
        list(source)
    assert time.monotonic() - started < 10


def test_camera_that_never_answers_is_an_error_within_its_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"no video from there within 0\.7 s"):
            open_source(camera_settings(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/s", open_timeout_s=0.7))
    assert time.monotonic() - started < 6


def test_http_camera_is_supervised_in_company(camera_server: Any, told: Any) -> None:
    """It ends its stream after every 10 images, and is opened again each time."""
    camera_server.frames = 10
    (source,) = open_sources([f"http://{camera_server.address}/cam"], on_event=told)
    try:
        frames = [frame for frame, _ in zip(source, range(25), strict=False)]
    finally:
        source.close()
    assert len(frames) == 25 and np.all(np.diff([f.index for f in frames]) > 0)
    assert told.statuses[:4] == ["starting", "live", "lost", "live"] and told.statuses[-1] == "ended"


# --- a driver that misbehaves: V4L2 cannot be had on every machine, so a stand-in hangs ---


class FakeCamera:
    """Gives `frames` images, then does what `then` says."""

    def __init__(self, frames: int, then: Callable[[], object], interval_s: float = 0.002) -> None:
        self.left = frames
        self.then = then
        self.interval_s = interval_s
        self.released = threading.Event()

    def grab(self) -> bool:
        time.sleep(self.interval_s)
        self.left -= 1
        return True if self.left >= 0 else bool(self.then())

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def get(self, propId: int, /) -> float:
        return 0.0

    def release(self) -> None:
        self.released.set()


class Driver:
    """Opens one stand-in after the other; `None` among them is a camera that is not there."""

    def __init__(self, *cameras: FakeCamera | Exception) -> None:
        self.cameras = list(cameras)
        self.opened_s: list[float] = []

    def __call__(self, silence_s: float) -> Opened:
        self.opened_s.append(time.monotonic())
        camera = self.cameras.pop(0) if len(self.cameras) > 1 else self.cameras[0]
        if isinstance(camera, Exception):
            raise camera
        return Opened(camera, silence_s)


SETTINGS = camera_settings("0", read_timeout_s=0.2)


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_GRACE_S", 0.2)
    monkeypatch.setattr(live, "_TICK_S", 0.02)


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    """For drivers to hang on: set after the test, so that no thread of it stays."""
    event = threading.Event()
    yield event
    event.set()


def _gone(camera: str, within_s: float = 10.0) -> bool:
    """Whether no thread of a camera is left, or ends soon."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if not [t for t in threading.enumerate() if t.name in (f"read {camera}", f"monitor {camera}")]:
            return True
        time.sleep(0.01)
    return False


def _wait(until: Callable[[], bool], within_s: float = 15.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while not until() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return until()


def test_exception_in_the_reader_surfaces_in_the_consumer() -> None:
    def explode() -> bool:
        raise RuntimeError("driver gone")

    camera = FakeCamera(3, explode)
    with (
        LiveSource(Driver(camera), "cam", SETTINGS, retry=False) as source,
        pytest.raises(SourceError, match=r"cam: reading failed \(driver gone\)"),
    ):
        list(source)
    assert camera.released.is_set()


def test_reader_that_never_returns_is_noticed(caplog: Any, blocked: threading.Event) -> None:
    camera = FakeCamera(2, blocked.wait)
    source = LiveSource(Driver(camera), "cam", SETTINGS, retry=False)
    with pytest.raises(SourceError, match="cam: no image for"):
        list(source)
    source.close()
    assert "abandoned" in caplog.text
    blocked.set()
    assert camera.released.wait(5) and _gone("cam")


def test_blocked_read_is_abandoned_and_its_late_image_thrown_away(
    told: Any, caplog: Any, blocked: threading.Event
) -> None:
    hanging, healthy = FakeCamera(3, blocked.wait), FakeCamera(10_000, lambda: False, 0.01)
    with LiveSource(Driver(hanging, healthy), "cam", SETTINGS, on_event=told) as source:
        indices = []
        for frame in source:
            indices.append(frame.index)
            if len(indices) == 10:
                break
        assert source.abandoned == 1 and source.connections == 2
        hanging.left = 1  # the driver comes back with an image, which is seconds old by now
        blocked.set()
        assert hanging.released.wait(5) and _wait(lambda: source.abandoned == 0)
        indices += [frame.index for frame, _ in zip(source, range(5), strict=False)]
    assert indices == sorted(set(indices))
    assert told.statuses == ["starting", "live", "lost", "live", "ended"]
    assert "abandoned" in caplog.text and _gone("cam")


def test_late_image_between_two_connections_is_thrown_away(blocked: threading.Event, told: Any) -> None:
    hanging = FakeCamera(2, blocked.wait)
    with LiveSource(Driver(hanging, SourceError("off")), "cam", SETTINGS, on_event=told) as source:
        assert _wait(lambda: source.status is CameraStatus.LOST)
        while source.poll(0) is not None:
            pass
        blocked.set()
        hanging.left = 100
        assert hanging.released.wait(5)
        assert source.poll(0.1) is None and source.status is CameraStatus.LOST
    assert told.count("live") == 1


def test_no_more_than_three_threads_are_abandoned(told: Any, blocked: threading.Event, monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_RETRY_FIRST_S", 0.02)
    driver = Driver(*(FakeCamera(1, blocked.wait) for _ in range(9)))
    with LiveSource(driver, "cam", SETTINGS, on_event=told) as source:
        assert _wait(lambda: "hangs in 3 threads" in told.events[-1].message)
        time.sleep(0.5)
        assert source.abandoned == 3 and len(driver.opened_s) == 3
        blocked.set()  # the driver is mended
        assert _wait(lambda: len(driver.opened_s) > 3)
    assert _gone("cam")


def test_opening_that_never_returns_delays_nobody(blocked: threading.Event) -> None:
    def hang(silence_s: float) -> Opened:
        blocked.wait()
        raise SourceError("too late")

    healthy = FakeCamera(10_000, lambda: False, 0.01)
    started_s = time.monotonic()
    with (
        LiveSource(hang, "dead", SETTINGS) as dead,
        LiveSource(Driver(healthy), "cam", SETTINGS) as source,
    ):
        assert len([frame for frame, _ in zip(source, range(20), strict=False)]) == 20
        assert dead.poll(0) is None and dead.status is CameraStatus.STARTING
        assert time.monotonic() - started_s < 5
        closing_s = time.monotonic()
    assert time.monotonic() - closing_s < 2  # a thread that hangs is not waited for


def test_waits_grow_and_start_anew_after_images(monkeypatch: Any, told: Any) -> None:
    monkeypatch.setattr(live, "_RETRY_FIRST_S", 0.1)
    off = SourceError("cam: is off")
    driver = Driver(off, off, off, FakeCamera(3, lambda: False), off)
    with LiveSource(driver, "cam", SETTINGS, on_event=told):
        assert _wait(lambda: len(driver.opened_s) >= 6)
    waits_s = np.diff(driver.opened_s)
    assert 0.05 <= waits_s[0] and 0.1 <= waits_s[1] and 0.2 <= waits_s[2]
    assert waits_s[3] < 0.1 + 0.3 and 0.1 <= waits_s[4]
    # The same message again is no news.
    assert told.statuses[:4] == ["starting", "lost", "live", "lost"]
    assert told.events[1].message == "is off" and told.events[1].subject == "cam"


def test_refused_password_is_not_tried_again_soon(monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_RETRY_FIRST_S", 0.01)
    driver = Driver(RefusedError("cam: refused"))
    with LiveSource(driver, "cam", SETTINGS) as source:
        assert _wait(lambda: source.status is CameraStatus.LOST)
        time.sleep(0.3)
        assert len(driver.opened_s) == 1


def test_silence_turns_stale_before_it_turns_lost(told: Any, blocked: threading.Event) -> None:
    camera = FakeCamera(5, lambda: blocked.wait(2))
    settings = camera_settings("0", read_timeout_s=5)
    with LiveSource(Driver(camera), "cam", settings, on_event=told) as source:
        assert _wait(lambda: source.status is CameraStatus.STALE)
        stale = told.events[-1]
        assert stale.message.startswith("no image for 1.")
        assert _wait(lambda: source.status is CameraStatus.LOST)
    assert told.statuses[:4] == ["starting", "live", "stale", "lost"]


def test_slow_camera_is_not_stale_between_its_images(told: Any) -> None:
    camera = FakeCamera(10_000, lambda: False, 1.2)
    settings = camera_settings("0", read_timeout_s=5)
    with LiveSource(Driver(camera), "cam", settings, on_event=told) as source:
        assert len([frame for _, frame in zip(range(3), source, strict=False)]) == 3
        assert told.statuses == ["starting", "live"]


@pytest.mark.parametrize(
    ("stamps_ms", "expected"), [([9e6, 9e6 + 40, 9e6 + 80], [0, 0.04, 0.08]), ([0, 0, 0], [None] * 3)]
)
def test_time_stamps_of_a_driver_count_from_its_first_image(stamps_ms: list[float], expected: list[Any]) -> None:
    class Stamping(FakeCamera):
        def get(self, propId: int, /) -> float:
            return stamps_ms[2 - self.left] if propId == cv2.CAP_PROP_POS_MSEC else 0.0

    camera = Stamping(3, lambda: False, 0.1)
    with LiveSource(lambda _: Opened(camera, 5, stamped=True), "cam", SETTINGS, retry=False) as source:
        assert [frame.stream_s for _, frame in zip(range(3), source, strict=False)] == pytest.approx(expected)


def test_poll_times_out(blocked: threading.Event) -> None:
    with LiveSource(Driver(FakeCamera(0, blocked.wait)), "cam", SETTINGS) as source:
        started = time.monotonic()
        assert source.poll(0.05) is None
        assert 0.04 < time.monotonic() - started < 1
        assert not source.ended


def test_undecodable_live_images_are_counted() -> None:
    class Garbled(FakeCamera):
        def retrieve(self) -> tuple[bool, Any]:
            return self.left % 2 == 0, np.zeros((4, 4, 3), np.uint8)

    camera = Garbled(10, lambda: False)
    with LiveSource(Driver(camera), "cam", SETTINGS, retry=False) as source, pytest.raises(SourceError):
        list(source)
    assert source.unreadable == 5


def test_rate_limit_converts_only_what_is_taken() -> None:
    class Counting(FakeCamera):
        converted = 0

        def retrieve(self) -> tuple[bool, Any]:
            self.converted += 1
            return super().retrieve()

    camera = Counting(120, lambda: False, 0.005)
    settings = camera_settings("0", max_fps=20)
    started_s = time.monotonic()
    with LiveSource(Driver(camera), "cam", settings, retry=False) as source, pytest.raises(SourceError):
        list(source)
    assert 3 <= camera.converted <= 20 * (time.monotonic() - started_s) + 2
    assert source.dropped <= 1


def test_rate_limit_is_not_taken_for_silence(told: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_INTERVAL_UNKNOWN_S", 0.1)
    camera = FakeCamera(10_000, lambda: False, 0.02)
    settings = camera_settings("0", max_fps=0.6)
    with LiveSource(Driver(camera), "cam", settings, on_event=told) as source:
        started_s = time.monotonic()
        assert len([frame for _, frame in zip(range(2), source, strict=False)]) == 2
        assert time.monotonic() - started_s > 1.5
    assert told.statuses == ["starting", "live", "ended"]


def test_closing_twice_is_fine() -> None:
    source = LiveSource(Driver(FakeCamera(10_000, lambda: False)), "cam", SETTINGS)
    source.close()
    source.close()
    assert source.poll(0) is None and list(source) == [] and _gone("cam")


def test_many_cameras_that_hang_are_closed_at_once(blocked: threading.Event, told: Any) -> None:
    def hang(silence_s: float) -> Opened:
        blocked.wait()
        raise SourceError("too late")

    sources = [LiveSource(hang, f"cam-{i}", SETTINGS, on_event=told) for i in range(6)]
    started_s = time.monotonic()
    close_sources(sources)
    assert time.monotonic() - started_s < 1  # each alone takes a quarter of a second
    assert told.count("ended") == 6
    blocked.set()
    assert all(_gone(source.camera) for source in sources)
