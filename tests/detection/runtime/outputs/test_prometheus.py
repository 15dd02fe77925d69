from __future__ import annotations

import http.client
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from detection import __version__
from detection.runtime.errors import OutputError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.outputs import prometheus
from detection.runtime.outputs.prometheus import PrometheusOutput

GUIDE = Path(__file__).parents[4] / "docs/robot/outputs_network.md"


class Counted:
    """What the page reads of a source."""

    camera = "left"
    dropped = 3
    unreadable = 1


def page(port: int) -> list[Sample]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    return [s for family in text_string_to_metric_families(text) for s in family.samples]


def value(samples: list[Sample], name: str, **labels: str) -> float | None:
    found = [s.value for s in samples if s.name == name and s.labels == labels]
    assert len(found) < 2
    return found[0] if found else None


@pytest.fixture
def output() -> Iterator[PrometheusOutput]:
    sources: Any = [Counted()]
    with PrometheusOutput(
        0, model="fields/mine.onnx", sources=sources, outputs_dropped=lambda: {"mqtt": 5}
    ) as output:
        yield output


def test_numbers_of_a_stream(output: PrometheusOutput, sample: Any) -> None:
    output.event(sample.status("left", "starting"))
    output.event(sample.status("left", "live"))
    output.write(
        *sample.call(0, age_ms=12.5, latency_ms={"infer": 9.0, "finish": 0.5}, counted={"weed": 1, "crop": 0})
    )
    output.write(
        *sample.call(1, labels=(), age_ms=12_000.0, latency_ms={"infer": 2.0}, counted={"weed": 4, "crop": 2})
    )
    output.write(*sample.call(0, camera='odd "name"\n', labels=(1, 1, 0)))
    got = page(output.port)
    assert value(got, "swath_frames_total", camera="left") == 2
    assert value(got, "swath_frames_dropped_total", camera="left") == 3
    assert value(got, "swath_frames_unreadable_total", camera="left") == 1
    assert value(got, "swath_output_dropped_total", output="mqtt") == 5
    assert value(got, "swath_detections_total", camera="left", **{"class": "weed"}) == 1
    assert value(got, "swath_detections_total", camera='odd "name"\n', **{"class": "crop"}) == 2
    assert value(got, "swath_plants_counted", camera="left", **{"class": "weed"}) == 4
    assert value(got, "swath_plants_counted", camera="left", **{"class": "crop"}) == 2
    assert value(got, "swath_plants_counted", camera='odd "name"\n', **{"class": "crop"}) is None
    assert value(got, "swath_frame_age_seconds_count", camera="left") == 2
    assert value(got, "swath_frame_age_seconds_sum", camera="left") == pytest.approx(12.0125)
    assert value(got, "swath_frame_age_seconds_bucket", camera="left", le="0.01") == 0
    assert value(got, "swath_frame_age_seconds_bucket", camera="left", le="0.015") == 1
    assert value(got, "swath_frame_age_seconds_bucket", camera="left", le="10.0") == 1
    assert value(got, "swath_frame_age_seconds_bucket", camera="left", le="+Inf") == 2
    assert value(got, "swath_stage_seconds_sum", camera="left", stage="infer") == pytest.approx(0.011)
    assert value(got, "swath_stage_seconds_count", camera="left", stage="finish") == 1
    assert value(got, "swath_events_total", kind="camera", status="live") == 1
    assert value(got, "swath_build_info", version=__version__, model="mine.onnx") == 1


def test_how_a_camera_is(output: PrometheusOutput, sample: Any) -> None:
    for status in CameraStatus:
        output.event(sample.status("left", status.value))
        got = page(output.port)
        states = {s.labels["status"]: s.value for s in got if s.name == "swath_camera_status"}
        assert states == {other.value: float(other is status) for other in CameraStatus}
    output.event(sample.status("left", "a word of its own"))
    assert value(page(output.port), "swath_camera_status", camera="left", status="ended") == 1


def test_age_of_the_last_image_grows(output: PrometheusOutput, sample: Any) -> None:
    assert value(page(output.port), "swath_last_frame_age_seconds", camera="left") is None
    output.write(*sample.call())
    first = value(page(output.port), "swath_last_frame_age_seconds", camera="left")
    time.sleep(0.3)
    second = value(page(output.port), "swath_last_frame_age_seconds", camera="left")
    assert first is not None and second is not None and 0 <= first < 30 and second - first >= 0.29


def test_another_model(output: PrometheusOutput) -> None:
    output.event(Event("model", "/models/bad.onnx", "refused"))
    assert value(page(output.port), "swath_build_info", version=__version__, model="mine.onnx") == 1
    output.event(Event("model", "/models/new.onnx", "swapped"))
    builds = [s.labels["model"] for s in page(output.port) if s.name == "swath_build_info"]
    assert builds == ["new.onnx"]


def test_the_guide_names_every_number_and_no_other(output: PrometheusOutput, sample: Any) -> None:
    rows = re.findall(r"^\| `(swath_\w+)` \| ([^|]*) \| ([^|]*) \|", GUIDE.read_text(), re.MULTILINE)
    told = {name: (tuple(re.findall(r"`(\w+)`", labels)), kind.strip()) for name, labels, kind in rows}
    assert len(told) == len(rows) > 8
    output.event(sample.status("left", "live"))
    output.write(*sample.call(counted={"weed": 1}))
    with urllib.request.urlopen(f"http://127.0.0.1:{output.port}/", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    shown = {}
    for family in families:
        if family.name.startswith("swath_") and not family.name.endswith("_created"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {key for s in family.samples for key in s.labels if key != "le"}
            shown[name] = (labels, family.type)
            assert family.documentation
    assert {name: (set(labels), kind) for name, (labels, kind) in told.items()} == shown
    assert {"process_resident_memory_bytes", "process_open_fds"} <= {family.name for family in families}


def test_port_that_is_taken(output: PrometheusOutput) -> None:
    with pytest.raises(OutputError, match=f"127.0.0.1 port {output.port}: is another program there"):
        PrometheusOutput(output.port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no.such.host.invalid", 0), ("203.0.113.7", 0)])
def test_places_that_are_none(host: str, port: int) -> None:
    with pytest.raises(OutputError, match=f"the metrics page cannot be at {host} port {port}: "):
        PrometheusOutput(port, host=host)


def test_by_default_nobody_else_reaches_it(output: PrometheusOutput) -> None:
    assert output._server.server_address[0] == "127.0.0.1"


def test_a_foreign_page_does_not_reach_it_by_a_name_of_its_own(output: PrometheusOutput) -> None:
    def status(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", output.port, timeout=20)
        connection.request("GET", "/metrics", headers={"Host": host})
        found = connection.getresponse().status
        connection.close()
        return found

    assert [status(host) for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example")] == [403] * 3
    assert [status(host) for host in ("localhost:1", "127.0.0.1", "[::1]:80")] == [200] * 3


def test_idle_connections_lock_nobody_out(output: PrometheusOutput) -> None:
    idle = [socket.create_connection(("127.0.0.1", output.port)) for _ in range(100)]
    try:
        assert page(output.port)
        assert threading.active_count() < 100
    finally:
        for one in idle:
            one.close()


def test_closing_frees_the_port_quickly(sample: Any) -> None:
    output = PrometheusOutput(0)
    output.write(*sample.call())
    assert page(output.port)
    started = time.monotonic()
    output.close()
    output.close()
    assert time.monotonic() - started < 2
    with PrometheusOutput(output.port) as again:
        assert again.port == output.port


def test_clients_that_say_nothing_or_leave_hold_no_thread(
    monkeypatch: pytest.MonkeyPatch, eventually: Any, capfd: Any
) -> None:
    monkeypatch.setattr(prometheus, "_REQUEST_TIMEOUT_S", 0.3)
    with PrometheusOutput(0) as output:
        before = threading.active_count()
        silent = [socket.create_connection(("127.0.0.1", output.port)) for _ in range(5)]
        eventually(lambda: threading.active_count() == before + 5, "they are heard")
        assert page(output.port)  # and nobody waits for them
        eventually(lambda: threading.active_count() == before, "they are given up")
        for client in silent:
            client.close()
        with socket.create_connection(("127.0.0.1", output.port)) as rude:
            rude.sendall(b"GET / HTTP/1.0\r\n\r\n")
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert page(output.port)
    assert capfd.readouterr().err == ""


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(OutputError, match=r'pip install "swath\[stream\]"'):
        PrometheusOutput(0)


def test_asked_and_written_at_once(output: PrometheusOutput, sample: Any) -> None:
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                page(output.port)
            except BaseException as error:
                failed.append(error)
                return

    asker = threading.Thread(target=ask)
    asker.start()
    for i in range(300):
        output.write(*sample.call(i, camera=f"camera-{i % 50}", counted={"weed": i}))
    done.set()
    asker.join(60)
    assert not failed
    assert sum(s.value for s in page(output.port) if s.name == "swath_frames_total") == 300
