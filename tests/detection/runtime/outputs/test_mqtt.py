from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from detection.runtime.errors import OutputError
from detection.runtime.events import Event
from detection.runtime.outputs import backlog, mqtt
from detection.runtime.outputs.mqtt import MqttOutput, topic_level

SECRET = "p/4:s@s#?w%"
QUOTED = "p%2F4%3As%40s%23%3Fw%25"


class Subscriber:
    """Hears all of a broker's topics."""

    def __init__(self, port: int, user: str | None = None) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self.ready = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self.client.username_pw_set(user, SECRET)
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe("#", qos=1)
        assert self.ready.wait(30)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        self.messages.append((message.topic, message.payload, message.retain))

    def records(self, camera: str = "left", prefix: str = "swath") -> list[dict[str, Any]]:
        topic = f"{prefix}/{camera}/detections"
        return [json.loads(payload) for t, payload, _ in list(self.messages) if t == topic]

    def last(self, topic: str) -> bytes | None:
        return next((payload for t, payload, _ in reversed(list(self.messages)) if t == topic), None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def subscribe() -> Iterator[Callable[..., Subscriber]]:
    opened: list[Subscriber] = []

    def subscribe(*args: Any, **kwargs: Any) -> Subscriber:
        opened.append(Subscriber(*args, **kwargs))
        return opened[-1]

    yield subscribe
    for subscriber in opened:
        subscriber.close()


@pytest.mark.parametrize("qos", [0, 1])
def test_records_arrive_unchanged_and_in_order(
    broker: Any, subscribe: Any, sample: Any, eventually: Any, qos: int
) -> None:
    broker.start()
    heard = subscribe(broker.port)
    with MqttOutput(f"mqtt://127.0.0.1:{broker.port}/field/robot%207?qos={qos}") as output:
        written = []
        for i in range(300):
            call = sample.call(i)
            written.append(call[2])
            output.write(*call)
    # closed at once: what was handed over is sent first
    eventually(lambda: heard.last("field/robot 7/status") == b"offline", "goes with a word")
    assert heard.records(prefix="field/robot 7") == written
    assert output.dropped == 0 and output.sent == 300
    assert [payload for topic, payload, _ in heard.messages if topic == "field/robot 7/status"] == [
        b"online",
        b"offline",
    ]


def test_a_stream_that_ends_at_once_is_heard(broker: Any, subscribe: Any, sample: Any, eventually: Any) -> None:
    broker.start()
    heard = subscribe(broker.port)
    for i in range(5):
        with MqttOutput(f"mqtt://127.0.0.1:{broker.port}") as output:
            output.write(*sample.call(i))
    eventually(lambda: [record["frame"] for record in heard.records()] == [0, 1, 2, 3, 4], "all five")


def test_who_comes_later_hears_how_all_is(broker: Any, subscribe: Any, sample: Any, eventually: Any) -> None:
    broker.start()
    with MqttOutput(f"mqtt://127.0.0.1:{broker.port}?qos=1") as output:
        output.event(sample.status("10.0.0.7:554/s#1", "starting"))
        output.event(sample.status("10.0.0.7:554/s#1", "live"))
        output.event(Event("model", "new.onnx", "swapped"))
        output.write(*sample.call(camera="10.0.0.7:554/s#1"))
        eventually(lambda: output.sent == 4, "all four sent")
        heard = subscribe(broker.port)
        eventually(lambda: len(heard.messages) >= 2, "retained messages")
        time.sleep(0.2)
    retained = {topic: payload for topic, payload, retain in heard.messages if retain}
    assert set(retained) == {"swath/status", "swath/10.0.0.7:554_s_1/status"}
    assert retained["swath/status"] == b"online"
    status = json.loads(retained["swath/10.0.0.7:554_s_1/status"])
    assert (status["status"], status["subject"], status["kind"]) == ("live", "10.0.0.7:554/s#1", "camera")


@pytest.mark.parametrize("qos", [0, 1])
def test_broker_killed_and_restarted(broker: Any, subscribe: Any, sample: Any, eventually: Any, qos: int) -> None:
    broker.start()
    events: list[Event] = []
    with MqttOutput(f"mqtt://127.0.0.1:{broker.port}?qos={qos}", events.append) as output:
        output.event(sample.status("left", "live"))
        output.write(*sample.call(0))
        eventually(lambda: output.sent == 2, "the first record")
        broker.kill()
        eventually(lambda: [e.status for e in events] == ["connected", "lost"], "the loss is seen")
        for i in range(1, 51):
            output.write(*sample.call(i))
        output.event(sample.status("left", "stale"))
        output.event(sample.status("left", "lost"))
        broker.start()
        heard = subscribe(broker.port)
        eventually(lambda: events[-1].status == "reconnected", "the broker is found again")
        for i in range(51, 61):
            output.write(*sample.call(i))
        eventually(lambda: heard.records() and heard.records()[-1]["frame"] == 60, "goes on")
        # this broker kept nothing: it is told again how things are
        eventually(lambda: heard.last("swath/left/status") is not None, "the camera's status")
        assert json.loads(heard.last("swath/left/status"))["status"] == "lost"
        assert heard.last("swath/status") == b"online"
    arrived = [record["frame"] for record in heard.records()]
    if qos:
        assert arrived == list(range(1, 61)) and output.dropped == 0
    else:
        assert arrived == list(range(51, 61)) and output.dropped == 50
        assert "50 messages were dropped" in events[-1].message
    assert [e.status for e in events] == ["connected", "lost", "reconnected"]
    assert {(e.kind, e.subject) for e in events} == {("output", "mqtt")}


def test_broker_killed_in_the_middle_leaves_no_gap_at_qos_1(
    broker: Any, subscribe: Any, sample: Any, eventually: Any
) -> None:
    broker.start()
    with MqttOutput(f"mqtt://127.0.0.1:{broker.port}?qos=1") as output:
        for round_ in range(3):
            heard = subscribe(broker.port)
            for i in range(100):
                output.write(*sample.call(100 * round_ + i))
            eventually(heard.records, "records")
            if round_ < 2:  # with messages on their way
                broker.kill()
                broker.start()
        eventually(lambda: heard.records()[-1]["frame"] == 299, "the last one")
        assert output.dropped == 0
    # The last broker got all that none before it had taken, in order.
    last = [record["frame"] for record in heard.records()]
    assert last == list(range(last[0], 300)) and last[0] <= 200


def test_broker_that_is_off_costs_nothing(
    broker: Any, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 10_000)
    events: list[Event] = []
    started = time.monotonic()
    output = MqttOutput(f"mqtt://127.0.0.1:{broker.port}?qos=1", events.append)
    for i in range(500):
        output.write(*sample.call(i))
    assert time.monotonic() - started < 5  # 500 writes, none waited for the broker
    eventually(lambda: events, "the event")
    assert [e.status for e in events] == ["lost"] and f"127.0.0.1:{broker.port}" in events[0].message
    assert "refused" in events[0].message.lower()
    assert sum(map(len, output._backlog._items)) <= 10_000
    waiting = len(output._backlog)
    assert output.dropped == 500 - waiting and 10 < waiting < 100
    broker.start()  # now it comes
    eventually(lambda: output.sent >= waiting, "what waited is sent")
    assert [e.status for e in events] == ["lost", "connected"]
    output.close()


def test_frozen_broker_neither_grows_memory_nor_holds_the_end(
    broker: Any, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 200_000)
    broker.start()
    output = MqttOutput(f"mqtt://127.0.0.1:{broker.port}")
    output.write(*sample.call())
    eventually(lambda: output.sent == 1, "the first record")
    broker.signal(signal.SIGSTOP)
    try:
        big = sample.call(labels=(0,) * 2000)  # 180 kB each: the system's own buffers are full soon
        started = time.monotonic()
        for _ in range(150):
            output.write(*big)
            time.sleep(0.002)
        assert time.monotonic() - started < 60  # most of it is making the JSON; a broker's answer never comes
        assert output.dropped > 50
        assert len(output._in_flight) <= 20 and len(output._backlog) <= 2
        assert len(output._client._out_packet) <= 21  # paho's own queue, which has no bound
        started = time.monotonic()
        with caplog.at_level(logging.WARNING):
            output.close()
            output.close()
        assert time.monotonic() - started < 2
        assert f"did not get {output.dropped} messages" in caplog.text
        assert output.dropped + output.sent == 151
    finally:
        broker.signal(signal.SIGCONT)


def test_server_that_takes_the_call_and_says_nothing(free_port: int, sample: Any) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        output = MqttOutput(f"mqtt://127.0.0.1:{free_port}")
        output.write(*sample.call())
        time.sleep(0.3)
        started = time.monotonic()
        output.close()
        assert time.monotonic() - started < 2
        assert output.sent == 0 and output.dropped == 1


@pytest.fixture
def guarded(tmp_path: Path, broker: Any) -> Any:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "robot", SECRET], check=True, timeout=60)
    broker.start(f"allow_anonymous false\npassword_file {passwords}")
    return broker


def test_wrong_password_is_one_event_and_never_shown(
    guarded: Any, sample: Any, eventually: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detection.runtime.outputs.link.LONGEST_PAUSE_S", 0.1)
    events: list[Event] = []
    with caplog.at_level(logging.DEBUG):
        url = f"mqtt://robot:wr0ng-{QUOTED}@127.0.0.1:{guarded.port}/farm"
        with MqttOutput(url, events.append) as output:
            attempts = []
            original = output._client.reconnect
            output._client.reconnect = lambda: attempts.append(1) or original()  # type: ignore[func-returns-value, method-assign]
            eventually(lambda: len(attempts) >= 3, "several attempts")
            output.write(*sample.call())
            names = [thread.name for thread in threading.enumerate()]
    assert [e.status for e in events] == ["refused"]
    assert "password" in events[0].message and f"127.0.0.1:{guarded.port}/farm" in events[0].message
    shown = " ".join([*(str(e) for e in events), *names, caplog.text, repr(output)])
    for secret in ("wr0ng", SECRET, QUOTED, "robot:"):
        assert secret not in shown


def test_password_with_every_special_character(guarded: Any, subscribe: Any, sample: Any, eventually: Any) -> None:
    heard = subscribe(guarded.port, user="robot")
    with MqttOutput(f"mqtt://robot:{QUOTED}@127.0.0.1:{guarded.port}") as output:
        output.write(*sample.call())
        eventually(heard.records, "the record")


@pytest.mark.parametrize("answers", [b"\x20\x02\x00\x00", b""], ids=["acknowledges nothing", "says nothing"])
def test_a_broker_that_never_finishes_is_lost(
    answers: bytes, sample: Any, eventually: Any, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection, acknowledges messages that were not sent, and goes on answering pings."""
    monkeypatch.setattr(mqtt, "_ACKNOWLEDGED_WITHIN_S", 0.5)

    def answer(viewer: socket.socket, _: threading.Event) -> None:
        viewer.recv(1000)
        if answers:
            viewer.sendall(answers + b"\x40\x02\x12\x34")

    events: list[Event] = []
    with served(answer) as port, MqttOutput(f"mqtt://127.0.0.1:{port}?qos=1", events.append) as output:
        output.write(*sample.call())
        eventually(lambda: any(event.status == "lost" for event in events), "the loss")
    lost = next(event.message for event in events if event.status == "lost")
    assert ("acknowledged nothing" if answers else "says nothing") in lost
    assert output.sent == 0 and output.dropped >= 1


def test_last_will_of_a_killed_process(broker: Any, subscribe: Any, eventually: Any) -> None:
    broker.start()
    heard = subscribe(broker.port)
    code = (
        "import sys, time; from detection.runtime.outputs.mqtt import MqttOutput\n"
        f"output = MqttOutput('mqtt://127.0.0.1:{broker.port}'); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[4])
    try:
        eventually(lambda: heard.last("swath/status") == b"online", "the process is there")
        process.kill()
        eventually(lambda: heard.last("swath/status") == b"offline", "the last will")
    finally:
        process.kill()
        process.wait(10)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls_with_an_authority_of_ones_own(
    broker: Any, tmp_path: Path, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    extra = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *extra], check=True, capture_output=True, timeout=60)
    broker.start(f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}")
    with MqttOutput(f"mqtts://127.0.0.1:{broker.port}?qos=1&ca={certificate}") as output:
        output.write(*sample.call())
        eventually(lambda: output.sent == 1, "sent")
    events: list[Event] = []
    monkeypatch.setattr("detection.runtime.outputs.link.LONGEST_PAUSE_S", 0.02)
    with MqttOutput(f"mqtts://127.0.0.1:{broker.port}", events.append) as output:
        eventually(lambda: output._link._failures > 2, "the certificate is refused")
        before = len(os.listdir("/proc/self/fd"))
        eventually(lambda: output._link._failures > 12, "and again")
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert [e.status for e in events] == ["lost"] and "certificate" in events[0].message.lower()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("broker:1883", "begins with mqtt:// or mqtts://"),
        ("http://broker", "begins with mqtt:// or mqtts://"),
        ("mqtt://", "no host"),
        ("mqtt:///farm", "no host"),
        ("mqtt://robot:s3cret", "host or port"),
        ("mqtt://robot:s3cret@broker:99999", "host or port"),
        ("mqtt://robot:s3c/ret@broker", "host or port"),
        ("mqtt://robot:12/s3cret@broker", "%2F"),
        ("mqtt://robot:12?s3cret@broker", "%3F"),
        ("mqtt://robot:12#s3cret@broker", "%23"),
        ("mqtt://broker/a/+/b", "PREFIX"),
        ("mqtt://broker/a%23", "PREFIX"),
        ("mqtt://broker?qos=2", "qos is 0 or 1"),
        ("mqtt://broker?qso=1", "unknown option 'qso'"),
        ("mqtt://broker?client_id=", "client_id is empty"),
        ("mqtt://broker?ca=x.pem", "mqtts://"),
        ("mqtts://broker?ca=/no/such.pem", "not a certificate"),
    ],
)
def test_urls_that_cannot_be_meant(url: str, says: str) -> None:
    before = set(threading.enumerate())
    with pytest.raises(OutputError) as error:
        MqttOutput(url)
    message = str(error.value)
    assert says in message and "s3c" not in message and "\n" not in message
    assert set(threading.enumerate()) <= before


def test_without_paho_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(OutputError, match=r'pip install "swath\[stream\]"'):
        MqttOutput("mqtt://broker")


def test_camera_names_as_topic_levels() -> None:
    assert topic_level("10.0.0.7:554/s 1") == "10.0.0.7:554_s 1"
    assert topic_level("a+b#\x00\n") == "a_b___"
    assert topic_level("Grün") == "Grün"
    assert topic_level("") == "_"
