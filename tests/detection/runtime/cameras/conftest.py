from __future__ import annotations

import contextlib
import functools
import http.server
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.events import Event

SERVER = Path(__file__).with_name("rtsp_server.py")
PYTHON = "/usr/bin/python3"  # Debian's: the one that GStreamer's bindings are installed for


class RtspCamera:
    """The server of rtsp_server.py in a process of its own, which can be frozen, killed and started again."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}/cam"

    @property
    def url(self) -> str:
        return f"rtsp://{self.address}"

    def start(self) -> None:
        """On the same port as before."""
        for _ in range(20):  # a killed server's port may be taken for a moment, by one who asks for it
            self._process = subprocess.Popen(
                [PYTHON, str(SERVER), "--port", str(self.port), *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._process.stdout is not None
            if line := self._process.stdout.readline().strip():
                self.port = int(line)
                return
            self.kill()
            time.sleep(0.2)
        raise AssertionError("the RTSP server does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=20)
            self._process = None

    def freeze(self, frozen: bool) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def resize(self, width: int, height: int) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"size {width} {height}\n")
        self._process.stdin.flush()


@pytest.fixture
def rtsp_camera() -> Iterator[Callable[..., RtspCamera]]:
    """Starts RTSP servers with the options given; all are killed after the test."""
    if subprocess.run(
        [PYTHON, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"], check=False
    ).returncode:
        pytest.skip("needs Debian's gir1.2-gst-rtsp-server-1.0 and python3-gi")
    started: list[RtspCamera] = []

    def start(*options: str) -> RtspCamera:
        started.append(RtspCamera(*options))
        return started[-1]

    yield start
    for camera in started:
        camera.kill()


class Relay:
    """A piece of network before a server: forwards TCP, now or later, or holds it back, or forgets connections."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._closing = threading.Event()
        self._holding = threading.Event()
        self._forgotten: set[socket.socket] = set()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self.delay_s = 0.0
        self._late: deque[tuple[float, socket.socket, bytes]] = deque()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def hold(self, holding: bool) -> None:
        """Keep back what comes, of all connections; later it goes on as if nothing had been."""
        (self._holding.set if holding else self._holding.clear)()

    def forget(self) -> None:
        """The connections there are: stay open, and carry nothing any more."""
        self._forgotten.update(self._pairs)

    def _run(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            while not self._closing.is_set():
                if self._holding.is_set():
                    time.sleep(0.02)
                    continue
                for key, _ in ready.select(0.005):
                    with contextlib.suppress(OSError):
                        self._move(key.fileobj, ready)
                while self._late and self._late[0][0] <= time.monotonic():
                    _, end, data = self._late.popleft()
                    with contextlib.suppress(OSError):
                        end.sendall(data)
            for end in [self._listener, *self._pairs]:
                end.close()

    def _move(self, end: Any, ready: selectors.BaseSelector) -> None:
        if end is self._listener:
            viewer, _ = self._listener.accept()
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                viewer.close()
                raise
            for one, other in ((viewer, server), (server, viewer)):
                self._pairs[one] = other
                ready.register(one, selectors.EVENT_READ)
            return
        if end in self._forgotten:
            ready.unregister(end)
            return
        other = self._pairs.get(end)
        if other is None:
            return  # closed a moment ago, with its other end
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(65536)
        if data:
            self._late.append((time.monotonic() + self.delay_s, other, data))
            return
        for one in (end, other):
            with contextlib.suppress(KeyError):
                ready.unregister(one)
            self._pairs.pop(one, None)
            one.close()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(10)


@pytest.fixture
def relay() -> Iterator[Callable[[int], Relay]]:
    made: list[Relay] = []

    def make(port: int) -> Relay:
        made.append(Relay(port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def read_code(image: np.ndarray) -> tuple[int, int]:
    """The number and the millisecond that an image of rtsp_server.py says of itself."""
    height, width = image.shape[:2]
    bits = 0
    for row in range(3):
        for column in range(20):
            y1, y2 = (int((row + part) * height / 10) for part in (0.3, 0.7))
            x1, x2 = (int((column + part) * width / 20) for part in (0.3, 0.7))
            bits = bits << 1 | int(image[y1:y2, x1:x2].mean() > 128)
    return bits >> 36, bits & 0xFFFFFFFFF


@dataclass
class Seen:
    """What a source gave."""

    frames: list[Frame] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    made_ms: list[int] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    stamp_error_ms: list[float] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)

    def follow(self, source: Source, until: Callable[[], bool] | None = None, *, within_s: float = 30.0) -> bool:
        """Take images until `until()`; False where that did not come to be in time."""
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            frame = source.poll(0.05)
            if frame is not None:
                now_ns = time.monotonic_ns()
                number, made_ms = read_code(frame.image)
                self.frames.append(frame)
                self.numbers.append(number)
                self.made_ms.append(made_ms)
                self.age_ms.append(now_ns / 1e6 - made_ms)
                self.stamp_error_ms.append(frame.captured_ns / 1e6 - made_ms)
                self.at_s.append(now_ns / 1e9)
            if until is not None and until():
                return True
        return until is None

    def check(self, *, age_ms: float) -> None:
        """Never one twice, none invented, none black, in order, none older than `age_ms` by its own pixels."""
        assert self.frames
        assert np.all(np.diff(self.made_ms) >= 0), self.made_ms
        assert len(set(zip(self.made_ms, self.numbers, strict=True))) == len(self.frames)
        assert np.all(np.diff([f.index for f in self.frames]) > 0)
        for frame in self.frames:
            below = frame.image[frame.image.shape[0] // 2 :]
            assert 60 < below.mean() < 220 and below.std() < 8  # neither black nor torn
        assert 0 <= min(self.age_ms) and max(self.age_ms) < age_ms, max(self.age_ms)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@dataclass
class Told:
    """A listener who remembers."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def statuses(self) -> list[str]:
        return [str(event.status) for event in self.events]

    def count(self, status: str) -> int:
        return self.statuses.count(status)


@pytest.fixture
def told() -> Told:
    return Told()


def threads_of(camera: str) -> int:
    return sum(thread.name.endswith(camera) for thread in threading.enumerate())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def here() -> Any:
    """What of this process is in use: `threads_of(ending of their name)`, `descriptors()`."""

    class Here:
        threads_of = staticmethod(threads_of)
        descriptors = staticmethod(descriptors)

    return Here


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def file_server() -> Iterator[Callable[[Path], str]]:
    """Serves a folder over HTTP; gives its URL."""
    servers: list[tuple[http.server.ThreadingHTTPServer, threading.Thread]] = []

    def serve(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(5)
