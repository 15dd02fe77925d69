from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from detection.runtime.dashboard.dashboard import Dashboard
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.outputs.contract import make_record
from detection.runtime.streaming.controls import Controls

NAMES = ("weed", "crop")


def waited_for(true: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """What `true` gives once that is true."""
    until = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < until, "that never came true"
        time.sleep(0.02)
    return found


@pytest.fixture
def wait() -> Any:
    return waited_for


def shot(camera: str = "left", index: int = 0, *, age_s: float = 0.0, labels: tuple[int, ...] = (), **record: Any):
    """Frame, detections and record of a small image, as outputs get them."""
    image = np.full((48, 64, 3), index % 250, np.uint8)
    frame = Frame(image, camera, index, time.monotonic_ns() - round(age_s * 1e9))
    n = len(labels)
    found = Detections(np.tile(np.float32([8, 8, 24, 24]), (n, 1)), np.full(n, 0.9), np.array(labels, int))
    return frame, found, make_record(frame, found, NAMES, age_ms=age_s * 1e3, latency_ms={}, **record)


@pytest.fixture
def make_shot() -> Any:
    return shot


@pytest.fixture
def controls(model_path: Path) -> Controls:
    return Controls(Detector(model_path, threads=1))


@pytest.fixture
def open_dashboard(controls: Controls, tmp_path: Path) -> Iterator[Any]:
    """Opens dashboards on free ports of loopback; they are closed at the end."""
    opened: list[Dashboard] = []

    def opening(address: str = "127.0.0.1:0", with_controls: Controls = controls, **arguments: Any) -> Dashboard:
        dashboard = Dashboard(address, with_controls, record_into=tmp_path / "videos", **arguments)
        opened.append(dashboard)
        return dashboard

    yield opening
    for dashboard in opened:
        dashboard.close()


@pytest.fixture
def request_to() -> Any:
    """Asks a dashboard as a program would; gives status, headers and body."""

    def ask(
        dashboard: Dashboard, path: str, *, send: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(dashboard.url).port, timeout=30)
        try:
            body = None if send is None else json.dumps(send)
            headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request("GET" if send is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return ask


class Drive:
    """Cameras whose images go through a real detector into a dashboard, from a thread as in a stream.

    Each image is dark with one red square that moves on; `red` is its brightness, so its score is `red` / 255.
    """

    def __init__(self, dashboard: Dashboard, controls: Controls, fps: dict[str, float]) -> None:
        self.dashboard = dashboard
        self.controls = controls
        self.fps = fps
        self.red = 200
        self.age_s = 0.0
        self.counted: dict[str, int] | None = None
        self.silent: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        index = dict.fromkeys(self.fps, 0)
        due = dict.fromkeys(self.fps, 0.0)
        while not self._stopping.wait(0.01):
            for camera, fps in self.fps.items():
                if camera in self.silent or time.monotonic() < due[camera]:
                    continue
                due[camera] = time.monotonic() + 1 / fps
                self._image(camera, index[camera])
                index[camera] += 1

    def _image(self, camera: str, index: int) -> None:
        image = np.full((64, 96, 3), 40, np.uint8)
        x = index * 3 % 72
        image[24:40, x : x + 16, 2] = self.red
        captured_ns = time.monotonic_ns() - round(self.age_s * 1e9)
        frame = Frame(image, camera, index, captured_ns)
        detector = self.controls.detector
        found = detector(image)
        age_ms = (time.monotonic_ns() - captured_ns) / 1e6
        record = make_record(frame, found, detector.class_names, age_ms=age_ms, latency_ms={}, counted=self.counted)
        self.dashboard.write(frame, found, record)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)


@pytest.fixture
def drive(controls: Controls) -> Iterator[Any]:
    """Starts a drive; it is stopped at the end."""
    drives: list[Drive] = []

    def starting(dashboard: Dashboard, with_controls: Controls = controls, **fps: float) -> Drive:
        drives.append(Drive(dashboard, with_controls, fps or {"left": 20.0}))
        return drives[-1]

    yield starting
    for each in drives:
        each.stop()


@pytest.fixture
def named_controls(tiny: ModuleType, tmp_path: Path) -> Any:
    """Controls of a model whose classes have the given names."""

    def make(*names: str) -> Controls:
        path = tiny.write(tmp_path / "named.onnx", tiny.metadata(class_names=names))
        return Controls(Detector(path, threads=1))

    return make


@pytest.fixture
def opened(browser, drive, open_dashboard):
    """A function that opens a dashboard; at the end no page complained or asked another machine for anything.

    (It asks for `drive` and `open_dashboard` so that pages are closed before what they show.)
    """
    said, asked_for, contexts = [], [], []

    def opening(dashboard, size=(1200, 900), url=None, **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(url or dashboard.url)
        return page

    opening.said = said
    yield opening
    for context in contexts:
        context.close()
    assert said == []
    assert asked_for and {urlsplit(url).hostname for url in asked_for if not url.startswith("blob:")} == {"127.0.0.1"}
