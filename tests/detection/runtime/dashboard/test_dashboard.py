from __future__ import annotations

import builtins
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from detection.runtime.dashboard.dashboard import Dashboard
from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.outputs.contract import make_record


def _json(answer) -> dict:
    status, _, body = answer
    assert status == 200, body
    return json.loads(body)


def test_state_says_what_the_guide_says(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard(cameras=["left", "dead"])
    dashboard.write(*make_shot("left", 5, age_s=0.03, labels=(0, 0, 1), counted={"weed": 4}))
    state = _json(request_to(dashboard, "/api/state"))
    assert state["schema"] == 1 and state["model"] == "tiny.onnx"
    left, dead = state["cameras"]
    assert left["status"] == "live" and left["found"] == 3 and left["size_wh"] == [64, 48]
    assert left["counted"] == {"weed": 4} and left["age_ms"]["p99"] == 30.0
    assert left["captured_ns"] < state["received_ns"] <= state["now_ns"] < time.monotonic_ns()
    assert dead["status"] == "starting" and dead["images"] == 0 and dead["captured_ns"] is None
    assert [each["name"] for each in state["classes"]] == ["weed", "crop"]
    assert state["classes"][0]["colour"] == "#56b4e9"
    own = {"weed": 0.7, "crop": 0.9}
    assert state["thresholds"] == {"score": own, "model": own, "lowest": 0.05}
    assert state["counted"] == {"weed": 4, "crop": 0} and state["recording"]["on"] is False


def test_events_are_listed(open_dashboard, request_to):
    dashboard = open_dashboard()
    dashboard.event(Event("camera", "left", CameraStatus.LOST, "no answer"))
    (event,) = _json(request_to(dashboard, "/api/events"))["events"]
    assert (event["kind"], event["subject"], event["status"], event["id"]) == ("camera", "left", "lost", 1)
    assert _json(request_to(dashboard, "/api/events?after=1"))["events"] == []
    assert _json(request_to(dashboard, "/api/state"))["cameras"][0]["status"] == "lost"


def test_thresholds_change_what_the_detector_reports(open_dashboard, request_to, controls, make_image):
    heard: list[Event] = []
    dashboard = open_dashboard(listener=heard.append)
    image = make_image(box=(8, 8, 24, 24)) // 2 + 30  # red 157: a score of 0.62
    assert len(controls.detector(image)) == 0
    assert _json(request_to(dashboard, "/api/thresholds", send={"score": {"weed": 0.6}})) == {
        "score": {"weed": 0.6, "crop": 0.9}
    }
    assert len(controls.detector(image)) == 1
    assert [(event.kind, event.status, event.message) for event in heard] == [("model", "thresholds", "weed 0.60")]


@pytest.mark.parametrize(
    "send",
    [{}, [], 3, {"score": {}}, {"score": [0.5]}, {"score": {"weed": 1.1}}, {"score": {"weed": -0.1}},
     {"score": {"weed": "0.5"}}, {"score": {"weed": True}}, {"score": {"weed": float("nan")}}, {"score": {"x": 0.5}}],
)  # fmt: skip
def test_thresholds_that_are_none_are_refused(open_dashboard, request_to, controls, send):
    before = controls.score_thresholds
    status, _, body = request_to(open_dashboard(), "/api/thresholds", send=send)
    assert status == 400 and json.loads(body)["error"]
    assert controls.score_thresholds == before


def test_a_flood_is_cut_off(open_dashboard, request_to):
    assert request_to(open_dashboard(), "/api/thresholds", send={"score": "x" * 100_000})[0] == 413


def test_snapshot_is_the_image_as_it_was(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard()
    assert request_to(dashboard, "/api/snapshots", send={"camera": "left"})[0] == 404
    dashboard.write(*make_shot("a/ü <b>", 7, labels=(0,)))
    files = _json(request_to(dashboard, "/api/snapshots", send={"camera": "a/ü <b>"}))["files"]
    dashboard.write(*make_shot("a/ü <b>", 200))  # later ones do not change it
    status, headers, plain = request_to(dashboard, files["plain"]["url"])
    assert status == 200 and headers["content-disposition"].startswith("attachment; filename*=utf-8''a_%C3%BC_b_-20")
    image = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (48, 64, 3) and (image == 7).all()
    annotated = cv2.imdecode(
        np.frombuffer(request_to(dashboard, files["annotated"]["url"])[2], np.uint8), cv2.IMREAD_COLOR
    )
    assert (annotated[8:24, 8].max(axis=1) > 100).all()  # the box's left side
    numbers = _json(request_to(dashboard, files["json"]["url"]))
    assert numbers["camera"] == "a/ü <b>" and numbers["frame"] == 7 and numbers["model"] == "tiny.onnx"
    assert abs(numbers["captured_unix_s"] - time.time()) < 60
    for _ in range(8):
        request_to(dashboard, "/api/snapshots", send={"camera": "a/ü <b>"})
    assert request_to(dashboard, files["plain"]["url"])[0] == 404


def test_recording_by_the_api(open_dashboard, request_to, make_shot, tmp_path, wait):
    dashboard = open_dashboard()
    assert request_to(dashboard, "/api/recording", send={"on": 1})[0] == 400
    assert _json(request_to(dashboard, "/api/recording", send={"on": True}))["on"]
    dashboard.write(*make_shot())
    wait(lambda: _json(request_to(dashboard, "/api/state"))["recording"]["images"] == 1)
    state = _json(request_to(dashboard, "/api/recording", send={"on": False}))
    assert not state["on"] and state["folder"] == str(tmp_path / "videos")
    assert (tmp_path / "videos" / state["files"][0]).stat().st_size > 0
    (tmp_path / "videos" / state["files"][0]).unlink()
    (tmp_path / "videos").rmdir()
    (tmp_path / "videos").write_text("")
    status, _, body = request_to(dashboard, "/api/recording", send={"on": True})
    assert status == 507 and "cannot be written" in json.loads(body)["error"]


def test_writing_waits_for_nobody_and_closing_neither(open_dashboard):
    dashboard = open_dashboard()
    image = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)  # its JPEG is large
    found = Detections(np.tile(np.float32([8, 8, 24, 24]), (50, 1)), np.full(50, 0.9), np.zeros(50, int))
    record = make_record(Frame(image, "left", 0, 0), found, ("weed",), age_ms=1, latency_ms={})
    times = []

    def write(images: int) -> None:
        for i in range(images):
            frame = Frame(image, "left", i, time.monotonic_ns())
            before = time.perf_counter()
            dashboard.write(frame, found, record)
            times.append(time.perf_counter() - before)

    write(1)
    port = urlsplit(dashboard.url).port
    stuck = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
    try:
        for each in stuck:  # ask for images over and over and read no answer
            each.sendall(b"GET /api/images?have=0:left HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        write(300)
        assert np.median(times) < 0.005
        before = time.monotonic()
        dashboard.close()
        assert time.monotonic() - before < 1.0
    finally:
        for each in stuck:
            each.close()


def test_it_stops_within_a_second_whoever_looks_on(open_dashboard, request_to, make_shot, wait):
    dashboard = open_dashboard()
    dashboard.write(*make_shot())
    port = urlsplit(dashboard.url).port
    request_to(dashboard, "/api/recording", send={"on": True})
    idle = socket.create_connection(("127.0.0.1", port), timeout=10)
    half = socket.create_connection(("127.0.0.1", port), timeout=10)
    half.sendall(b"GET /api/state HTTP/1.1\r\nHos")
    waiting = socket.create_connection(("127.0.0.1", port), timeout=10)
    waiting.sendall(b"GET /api/images?have=1:left HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.2)
    before = time.monotonic()
    dashboard.close()
    assert time.monotonic() - before < 1.0
    dashboard.close()  # safe to call twice
    for each in (idle, half, waiting):
        each.close()
    assert not [t for t in threading.enumerate() if t.name == "dashboard" or t.name == "dashboard-recorder"]
    with socket.create_server(("127.0.0.1", port)):  # the port is free again
        pass


def test_a_taken_port_leaves_nothing_behind(open_dashboard, controls):
    first = open_dashboard()
    before = threading.active_count()
    with pytest.raises(OutputError, match=r"port \d+ is in use"):
        Dashboard(urlsplit(first.url).port, controls)
    assert threading.active_count() == before


def test_signals_and_the_terminal_stay_the_streams(open_dashboard, request_to, capfd, caplog):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    caplog.set_level(logging.DEBUG)
    dashboard = open_dashboard("0.0.0.0:0", token="a-secret-of-mine")
    request_to(dashboard, "/?token=a-secret-of-mine")
    request_to(dashboard, "/nothing?token=a-secret-of-mine")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    dashboard.close()
    assert capfd.readouterr() == ("", "")
    assert "a-secret-of-mine" not in caplog.text


def test_a_fault_in_an_answer_is_logged_and_ends_nothing(open_dashboard, request_to, make_shot, caplog, capfd):
    dashboard = open_dashboard()
    frame, found, record = make_shot()
    record["detections"] = [{"score": {1, 2}}]  # no JSON
    dashboard.write(frame, found, record)
    status, _, body = request_to(dashboard, "/api/images?have=0:left")
    assert status == 500 and "see the stream's log" in json.loads(body)["error"]
    assert "dashboard: /api/images failed" in caplog.text and capfd.readouterr().out == ""
    assert request_to(dashboard, "/api/state")[0] == 200


def test_without_the_web_server_it_says_what_to_install(controls, monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(OutputError, match=r'pip install "swath\[stream\]"'):
        Dashboard("127.0.0.1:0", controls)


def test_the_stream_starts_without_loading_a_web_server():
    code = "import detection.runtime.dashboard.dashboard, sys; print(*{'starlette', 'uvicorn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == ""


def test_the_wheel_carries_the_pages(tmp_path):
    import zipfile
    from pathlib import Path

    root = Path(__file__).resolve().parents[4]
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=root, check=True, capture_output=True, timeout=300
    )
    (wheel,) = tmp_path.glob("*.whl")
    pages = root / "detection" / "runtime" / "dashboard" / "page"
    here = {f"detection/runtime/dashboard/page/{path.name}" for path in pages.iterdir()}
    assert len(here) > 8 and here <= set(zipfile.ZipFile(wheel).namelist())
