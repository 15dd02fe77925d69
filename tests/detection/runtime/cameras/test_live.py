from __future__ import annotations

import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

from detection.runtime.cameras.live import LiveSource, Mailbox
from detection.runtime.cameras.sources import open_source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError


def test_mailbox_keeps_the_newest() -> None:
    mailbox = Mailbox()
    frames = [Frame(np.zeros((1, 1, 3), np.uint8), "c", i, i) for i in range(5)]
    for frame in frames[:4]:
        mailbox.put(frame)
    assert mailbox.take(0) is frames[3]
    assert mailbox.dropped == 3
    assert mailbox.take(0) is None  # never the same frame twice
    mailbox.put(frames[4])
    mailbox.fail(ValueError("gone"))
    assert mailbox.take(0) is frames[4]  # what came before the failure is still given
    assert isinstance(mailbox.take(0), ValueError)


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
        # The picture itself says which one it is: the camera counts in grey levels.
        shown = [int(f.image[0, 0, 0]) for f in frames]
        assert all(abs(level - f.index % 250) <= 1 for level, f in zip(shown, frames, strict=True))
        gaps = np.diff([f.index for f in frames])
        assert gaps.min() >= 1 and gaps.mean() > 2
        assert np.median(ages_ms) < 500  # bounded: no queue builds up
        assert source.dropped >= gaps.sum() - len(gaps) > 5
    assert started < frames[0].captured_ns < frames[-1].captured_ns
    assert source.ended
    assert not [t for t in threading.enumerate() if t.name.startswith("read ")]


def test_fast_consumer_gets_no_frame_twice(camera_server: Any) -> None:
    with open_source(f"http://{camera_server.address}/cam") as source:
        indices = [frame.index for frame, _ in zip(source, range(30), strict=False)]
    assert len(indices) == 30 and len(set(indices)) == 30 and indices == sorted(indices)


def test_camera_that_dies_gives_its_last_pictures_and_an_error(camera_server: Any) -> None:
    camera_server.frames = 15
    seen = []
    with open_source(f"http://{camera_server.address}/cam") as source:
        with pytest.raises(SourceError, match="no more pictures after 15") as error:
            for frame in source:
                seen.append(frame.index)
        assert source.ended and source.poll(0) is None
    assert "\n" not in str(error.value)
    assert seen[-1] == 14


def test_camera_that_hangs_is_an_error_within_its_timeout(camera_server: Any) -> None:
    camera_server.frames, camera_server.hang_s = 10, 30.0
    started = time.monotonic()
    with (
        open_source(f"http://{camera_server.address}/cam", read_timeout_s=1.0) as source,
        pytest.raises(SourceError, match="no more pictures after 10"),
    ):
        list(source)
    assert time.monotonic() - started < 10


def test_camera_that_never_answers_is_an_error_within_its_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"no video from there within 0\.7 s"):
            open_source(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/s", open_timeout_s=0.7)
    assert time.monotonic() - started < 6


class FakeCamera:
    """Gives `frames` pictures, then does what `then` says."""

    def __init__(self, frames: int, then: Any) -> None:
        self.left = frames
        self.then = then
        self.released = threading.Event()

    def grab(self) -> bool:
        time.sleep(0.002)
        self.left -= 1
        return True if self.left >= 0 else bool(self.then())

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def get(self, propId: int, /) -> float:
        return 0.0

    def release(self) -> None:
        self.released.set()


def test_exception_in_the_reader_surfaces_in_the_consumer() -> None:
    def explode() -> bool:
        raise RuntimeError("driver gone")

    camera = FakeCamera(3, explode)
    with (
        LiveSource(camera, "cam") as source,
        pytest.raises(SourceError, match=r"cam: reading failed \(driver gone\)"),
    ):
        list(source)
    assert camera.released.is_set()


def test_reader_that_never_returns_is_noticed(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("detection.runtime.cameras.live._GRACE_S", 0.1)
    release = threading.Event()
    camera = FakeCamera(2, release.wait)
    source = LiveSource(camera, "cam", read_timeout_s=0.1)
    with pytest.raises(SourceError, match="cam: no picture for"):
        list(source)
    source.close()
    assert "left behind" in caplog.text
    release.set()
    assert camera.released.wait(2)


def test_poll_times_out() -> None:
    release = threading.Event()
    with LiveSource(FakeCamera(0, release.wait), "cam") as source:
        started = time.monotonic()
        assert source.poll(0.05) is None
        assert 0.04 < time.monotonic() - started < 1
        assert not source.ended
        release.set()


def test_undecodable_live_pictures_are_counted() -> None:
    class Garbled(FakeCamera):
        def retrieve(self) -> tuple[bool, Any]:
            return self.left % 2 == 0, np.zeros((4, 4, 3), np.uint8)

    with LiveSource(Garbled(10, lambda: False), "cam") as source, pytest.raises(SourceError):
        list(source)
    assert source.unreadable == 5
