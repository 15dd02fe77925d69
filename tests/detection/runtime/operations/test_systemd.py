from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detection.runtime.operations.systemd import Notifier, Progress, Service

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
    progress = Progress()
    with Service(progress, lambda: "2 cameras live\n31 ms", Notifier(environment(tmp_path, 1.2))) as service:
        assert systemd.messages(0.2) == []  # not before it is ready
        service.ready()
        service.ready()
        assert systemd.next() == "READY=1\nSTATUS=2 cameras live 31 ms"
        for _ in range(3):
            progress.took()
            progress.done()
            assert systemd.next() == "WATCHDOG=1\nSTATUS=2 cameras live 31 ms"
    rest = systemd.messages(0.5)
    assert rest[-1].startswith("STOPPING=1") and not any("READY" in message for message in rest)


def test_no_sign_of_life_while_a_picture_hangs_in_the_pipeline(systemd: Systemd, tmp_path: Path) -> None:
    progress = Progress()
    with Service(progress, lambda: "well", Notifier(environment(tmp_path, 1.0))) as service:
        service.ready()
        progress.took()  # and the device never answers; the loop goes round all the same
        seen = []
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            progress.turned()
            seen += systemd.messages(0.05)
        # from half of the watchdog's time on there is silence, so systemd acts
        stuck = [message for message in seen if "stuck" in message]
        assert stuck and "WATCHDOG" not in "".join(seen[seen.index(stuck[0]) :])
        progress.done()  # it came back in time after all
        progress.turned()
        for _ in range(20):
            progress.turned()
            if any("WATCHDOG=1" in message for message in systemd.messages(0.1)):
                break
        else:
            pytest.fail("no sign of life after it moved again")


def test_no_sign_of_life_while_the_loop_itself_hangs(systemd: Systemd, tmp_path: Path) -> None:
    with Service(Progress(), lambda: "well", Notifier(environment(tmp_path, 0.8))) as service:
        service.ready()
        time.sleep(1.0)
        systemd.messages(0.05)
        assert all("WATCHDOG" not in message for message in systemd.messages(0.8))


def test_a_machine_whose_cameras_are_gone_is_alive() -> None:
    progress = Progress()
    progress.took()
    progress.done()
    time.sleep(0.2)
    progress.turned()
    assert progress.stuck_s < 0.15


def test_stuck_counts_from_the_last_picture_that_moved() -> None:
    progress = Progress()
    for _ in range(3):  # three are inside, one after another comes out
        progress.took()
    time.sleep(0.3)
    progress.turned()
    assert 0.25 < progress.stuck_s < 5
    progress.done()
    assert progress.stuck_s < 0.2
    time.sleep(0.3)
    progress.turned()
    assert progress.stuck_s > 0.25


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    assert not notifier and notifier.watchdog_s is None
    with Service(Progress(), lambda: pytest.fail("nobody asks"), notifier) as service:
        service.ready()
        assert service._thread is None


def test_a_socket_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "x"})
    assert notifier and notifier.watchdog_s is None
    notifier.send("READY=1")
    notifier.send("WATCHDOG=1")
    assert len(caplog.records) == 1 and "cannot be told" in caplog.text


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
from detection.runtime.operations.systemd import Progress, Service
def the_device_never_answers():
    print("hanging", flush=True)
    time.sleep(100)
with Service(Progress(), lambda: "well") as service:
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
