from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from detection.runtime.cameras import ffmpeg_options as module
from detection.runtime.cameras.ffmpeg_options import DEFAULT_OPTIONS, ffmpeg_options

NAME = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


@pytest.fixture(autouse=True)
def not_the_users(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "USERS_OPTIONS", None)
    monkeypatch.setenv(NAME, DEFAULT_OPTIONS)


def test_in_force_while_opening_and_gone_after() -> None:
    with ffmpeg_options("rtsp_transport;udp"):
        assert os.environ[NAME] == "rtsp_transport;udp"
    assert os.environ[NAME] == DEFAULT_OPTIONS
    with pytest.raises(RuntimeError), ffmpeg_options("a;b"):
        raise RuntimeError
    assert os.environ[NAME] == DEFAULT_OPTIONS


def test_same_options_open_side_by_side_and_others_wait_a_little(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_READ_WITHIN_S", 0.4)
    hold, order = threading.Event(), []

    def other() -> None:
        with ffmpeg_options("udp"):
            order.append(os.environ[NAME])

    with ffmpeg_options("tcp"):  # a dead camera, whose opening takes long
        started = time.monotonic()
        with ffmpeg_options("tcp"):
            assert time.monotonic() - started < 0.3
        waiting = threading.Thread(target=other)
        waiting.start()
        assert not hold.wait(0.1) and order == []
        waiting.join(10)
        assert order == ["udp"] and 0.3 < time.monotonic() - started < 5
    assert os.environ[NAME] == DEFAULT_OPTIONS and not module._openings


def test_many_threads_each_see_their_own(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_READ_WITHIN_S", 60)
    wrong: list[str] = []

    def one(options: str) -> None:
        for _ in range(20):
            with ffmpeg_options(options):
                time.sleep(0.001)
                if os.environ[NAME] != options:
                    wrong.append(options)

    threads = [threading.Thread(target=one, args=(f"x;{i % 3}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_what_the_user_set_is_never_touched() -> None:
    code = (
        "import os\n"
        "from detection.runtime.cameras.ffmpeg_options import ffmpeg_options\n"
        f"with ffmpeg_options('a;b'): print(os.environ['{NAME}'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, NAME: "rtsp_transport;http"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert result.stdout.strip() == "rtsp_transport;http"
