from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import open_source
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.operations.systemd import Heartbeat, Notifier, Service
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.options import StreamOptions
from detection.runtime.streaming.pipeline import run_stream

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's sockets are Unix ones")


class Systemd:
    """The other side: a real datagram socket as systemd has one."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)

    def messages(self, wait_s: float) -> list[str]:
        """What comes within `wait_s` seconds."""
        found = []
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                found.append(self.socket.recv(4096).decode())
            except TimeoutError:
                break
        return found

    def next(self) -> str:
        self.socket.settimeout(20)
        return self.socket.recv(4096).decode()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    there = Systemd(str(tmp_path / "notify"))
    yield there
    there.socket.close()


def environment(tmp_path: Path, watchdog_s: float | None = None) -> dict[str, str]:
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    if watchdog_s is not None:
        told |= {"WATCHDOG_USEC": str(int(watchdog_s * 1e6)), "WATCHDOG_PID": str(os.getpid())}
    return told


def test_ready_alive_status_stopping(systemd: Systemd, tmp_path: Path) -> None:
    heartbeat = Heartbeat()
    with Service(heartbeat, lambda: "2 cameras live\n31 ms", Notifier(environment(tmp_path, 4))) as service:
        assert systemd.messages(0.2) == []  # not before it is ready
        service.ready()
        service.ready()
        assert systemd.next() == "READY=1\nSTATUS=2 cameras live 31 ms"
        for _ in range(3):
            heartbeat()
            assert systemd.next() == "WATCHDOG=1\nSTATUS=2 cameras live 31 ms"
    rest = systemd.messages(0.5)
    assert rest[-1].startswith("STOPPING=1") and not any("READY" in message for message in rest)


def test_no_sign_of_life_while_the_loop_itself_hangs(systemd: Systemd, tmp_path: Path) -> None:
    with Service(Heartbeat(), lambda: "well", Notifier(environment(tmp_path, 0.8))) as service:
        service.ready()
        time.sleep(1.0)
        systemd.messages(0.05)
        assert all("WATCHDOG" not in message for message in systemd.messages(0.8))


def test_a_pipeline_that_goes_on_again_in_time_is_alive_again(systemd: Systemd, tmp_path: Path) -> None:
    heartbeat = Heartbeat()
    with Service(heartbeat, lambda: "well", Notifier(environment(tmp_path, 1.0))) as service:
        service.ready()
        while "stuck: no progress" not in systemd.next():
            pass
        for _ in range(100):
            heartbeat()
            if "WATCHDOG=1" in "".join(systemd.messages(0.05)):
                break
        else:
            pytest.fail("no sign of life after it went on")


class Gone(Source):
    """A camera that is there and gives nothing."""

    camera, live, fps, length, dropped, unreadable, ended = "gone", True, None, None, 0, 0, False

    def poll(self, timeout_s: float) -> Frame | None:
        time.sleep(timeout_s)
        return None

    def close(self) -> None:
        pass


class Hangs(Output):
    """An output that never comes back from its second image, until it is let go."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        if frame.index:
            self.release.wait(60)

    def close(self) -> None:
        pass


def test_a_machine_whose_cameras_are_gone_is_alive(detector: Detector) -> None:
    heartbeat, stop = Heartbeat(), threading.Event()
    silent: list[float] = []
    watch = threading.Thread(target=lambda: silent.extend(_watch(heartbeat, 3.0)))
    watch.start()
    threading.Timer(3.2, stop.set).start()
    run_stream(detector, [Gone(), Gone()], [], StreamOptions(heartbeat=heartbeat), stop=stop)
    watch.join()
    assert max(silent) < 1.5


def test_a_pipeline_whose_output_hangs_is_not(detector: Detector, video_path: Path) -> None:
    heartbeat, hangs = Heartbeat(), Hangs()
    silent: list[float] = []

    def watch() -> None:
        silent.extend(_watch(heartbeat, 2.0))
        hangs.release.set()

    watching = threading.Thread(target=watch)
    with open_source(video_path) as source:
        watching.start()
        run_stream(detector, [source], [hangs], StreamOptions(heartbeat=heartbeat))
    watching.join()
    assert max(silent) > 1.0


def _watch(heartbeat: Heartbeat, seconds: float) -> Iterator[float]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)
        yield heartbeat.silent_s


def test_a_status_that_fails_does_not_look_like_a_standstill(systemd: Systemd, tmp_path: Path) -> None:
    def fails() -> str:
        raise RuntimeError("no status")

    with Service(Heartbeat(), fails, Notifier(environment(tmp_path, 30))) as service:
        service.ready()
        assert systemd.next() == "READY=1\nSTATUS=running"
        assert systemd.next() == "WATCHDOG=1\nSTATUS=running"


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    assert not notifier and notifier.watchdog_s is None
    with Service(Heartbeat(), lambda: pytest.fail("nobody asks"), notifier) as service:
        service.ready()
        assert service._thread is None


def test_a_socket_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "x"})
    assert notifier and notifier.watchdog_s is None
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    assert len(caplog.records) == 1 and "cannot be sent to systemd" in caplog.text


def test_another_processs_watchdog_is_not_ours(tmp_path: Path) -> None:
    told = {**environment(tmp_path, 5), "WATCHDOG_PID": "1"}
    assert Notifier(told).watchdog_s is None
    assert Notifier(environment(tmp_path, 5)).watchdog_s == 5


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"swath-test-{os.getpid()}"
    there = Systemd(b"\0" + name.encode())
    Notifier({"NOTIFY_SOCKET": "@" + name}).send("READY=1")
    assert there.next() == "READY=1"
    there.socket.close()


HANGS = """
import time
from detection.runtime.operations.systemd import Heartbeat, Service
def the_device_never_answers():
    print("hanging", flush=True)
    time.sleep(100)
with Service(Heartbeat(), lambda: "well") as service:
    service.ready()
    the_device_never_answers()
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_what_systemd_kills_says_where_it_hung(systemd: Systemd, tmp_path: Path) -> None:
    told = {**os.environ, **environment(tmp_path, 30)}
    del told["WATCHDOG_PID"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HANGS], env=told, stdout=pipe, stderr=pipe, text=True)
    assert systemd.next().startswith("READY=1")
    assert process.stdout is not None and process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGABRT)  # what the watchdog does
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGABRT and "the_device_never_answers" in stderr
