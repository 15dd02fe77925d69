from __future__ import annotations

import base64
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from detection.runtime.errors import OutputError
from detection.runtime.events import Event
from detection.runtime.outputs import backlog, webhook
from detection.runtime.outputs.webhook import WebhookOutput


class Hook(ThreadingHTTPServer):
    """A real web server that answers as it is told, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _HookHandler)
        self.answers: list[int] = []
        """To the next requests, one each; then 200."""
        self.delay_s = 0.0
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.taken: list[dict[str, Any]] = []
        self.released = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self.thread.start()

    def url(self, rest: str = "/hook?every_s=0") -> str:
        return f"http://127.0.0.1:{self.server_port}{rest}"

    def got(self, kind: str) -> list[Any]:
        return [thing for body in list(self.taken) for thing in body[kind]]

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()
        self.thread.join(10)


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)  # where a followed redirection would end
        self.end_headers()
        self.server.asked.append(("GET", {}, b""))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        self.server.released.wait(self.server.delay_s)
        if answer == 200:
            self.server.taken.append(json.loads(body))
        try:
            self.send_response(answer)
            if 300 <= answer < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
        except OSError:
            pass  # the client did not wait


def test_a_server_that_drips_is_lost(
    sample: Any, eventually: Any, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then, so that no read waits for long."""
    monkeypatch.setattr(webhook, "_EXCHANGE_S", 0.6)

    def drip(viewer: socket.socket, stop: threading.Event) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + 1000 * b"x":
            if stop.wait(0.1):
                return
            try:
                viewer.sendall(bytes([byte]))
            except OSError:
                return

    events: list[Event] = []
    with (
        served(drip) as port,
        WebhookOutput(f"http://127.0.0.1:{port}/x?every_s=0", events.append) as output,
    ):
        output.write(*sample.call())
        eventually(lambda: any(event.status == "lost" for event in events), "the loss")
    assert "no whole answer within 0.6 s" in next(event.message for event in events if event.status == "lost")
    assert output.sent == 0 and output.dropped >= 1


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.runtime.outputs.link.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("detection.runtime.outputs.link.LONGEST_PAUSE_S", 0.1)


def test_finds_and_events_unchanged_in_order(hook: Hook, sample: Any) -> None:
    events = [sample.status("left", "live"), Event("model", "new.onnx", "swapped")]
    heard: list[Event] = []
    written = []
    with WebhookOutput(hook.url("/a/b?key=1&every_s=0.2&x=%20y"), heard.append) as output:
        for i in range(60):
            call = sample.call(i, labels=(1,) if i % 3 else ())
            output.write(*call)
            written += [call[2]] if i % 3 else []
        for event in events:
            output.event(event)
    assert hook.got("records") == written and len(written) == 40
    assert hook.got("events") == [event.to_json() for event in events]
    assert len(hook.taken) < 5 and {body["schema"] for body in hook.taken} == {1}  # together, not one by one
    path, headers, _ = hook.asked[0]
    assert path == "/a/b?key=1&x=%20y"
    assert headers["Content-Type"] == "application/json" and headers["User-Agent"].startswith("swath/")
    assert "Authorization" not in headers
    assert (output.sent, output.dropped) == (42, 0)
    assert [e.status for e in heard] == ["connected"]


def test_collects_for_as_long_as_it_is_told(hook: Hook, sample: Any, eventually: Any) -> None:
    with WebhookOutput(hook.url("/?every_s=0.5")) as output:
        started = time.monotonic()
        for i in range(3):
            output.write(*sample.call(i))
            time.sleep(0.05)
        eventually(lambda: hook.taken, "the POST")
        assert time.monotonic() - started >= 0.5
        assert len(hook.taken) == 1 and len(hook.taken[0]["records"]) == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", [500, 503, 429])
def test_a_server_in_trouble_gets_the_same_again(hook: Hook, sample: Any, eventually: Any, answer: int) -> None:
    hook.answers = [answer] * 4
    heard: list[Event] = []
    with WebhookOutput(hook.url(), heard.append) as output:
        output.write(*sample.call(1))
        eventually(lambda: hook.asked, "the first attempt")
        output.write(*sample.call(2))
        eventually(lambda: output.sent == 2, "both")
    first = hook.asked[:5]
    assert len({body for _, _, body in first}) == 1
    assert len({headers["Idempotency-Key"] for _, headers, _ in first}) == 1
    assert hook.asked[5][1]["Idempotency-Key"] != first[0][1]["Idempotency-Key"]
    assert [r["frame"] for r in hook.got("records")] == [1, 2]
    assert [e.status for e in heard] == ["lost", "connected"] and f"HTTP {answer}" in heard[0].message
    assert output.dropped == 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", [400, 401, 404, 302, 307])
def test_what_is_refused_is_counted_and_not_sent_again(hook: Hook, sample: Any, eventually: Any, answer: int) -> None:
    hook.answers = [answer, answer]
    heard: list[Event] = []
    with WebhookOutput(hook.url(), heard.append) as output:
        for i in range(3):
            output.write(*sample.call(i))
            eventually(lambda i=i: output.sent + output.dropped == i + 1, "an answer")
    assert [json.loads(body)["records"][0]["frame"] for _, _, body in hook.asked] == [0, 1, 2]
    assert (output.dropped, output.sent) == (2, 1)
    assert [e.status for e in heard] == ["refused", "connected"] and f"HTTP {answer}" in heard[0].message


@pytest.mark.usefixtures("quick")
def test_a_dead_server_costs_nothing_and_is_found_again(
    free_port: int, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 10_000)
    heard: list[Event] = []
    with WebhookOutput(f"http://127.0.0.1:{free_port}/?every_s=0", heard.append) as output:
        started = time.monotonic()
        for i in range(500):
            output.write(*sample.call(i))
        assert time.monotonic() - started < 5
        eventually(lambda: heard, "the event")
        assert output.dropped > 400 and sum(map(len, output._backlog._items)) <= 10_000
        descriptors = len(os.listdir("/proc/self/fd"))
        eventually(lambda: output._link._failures > 10, "attempts")
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
        hook = Hook(free_port)
        try:
            eventually(lambda: hook.got("records") and hook.got("records")[-1]["frame"] == 499, "the newest")
            eventually(lambda: len(heard) == 2, "the second event")
            eventually(lambda: output.sent + output.dropped == 500, "its answer")
        finally:
            hook.close()
    assert [e.status for e in heard] == ["lost", "connected"]
    assert "refused" in heard[0].message.lower() and f"{output.dropped} records" in heard[1].message


@pytest.mark.parametrize("how", ["never answers", "slow"])
def test_a_slow_server_holds_neither_the_stream_nor_the_end(
    hook: Hook, sample: Any, eventually: Any, caplog: Any, how: str
) -> None:
    hook.delay_s = 60.0
    output = WebhookOutput(hook.url())
    output.write(*sample.call(0))
    eventually(lambda: hook.asked, "the POST")
    started = time.monotonic()
    for i in range(1, 100):
        output.write(*sample.call(i))
    assert time.monotonic() - started < 3
    started = time.monotonic()
    if how == "slow":
        threading.Timer(0.1, hook.released.set).start()  # it answers in time after all
    with caplog.at_level(logging.WARNING):
        output.close()
        output.close()
    assert time.monotonic() - started < 2
    if how == "slow":
        assert (output.sent, output.dropped) == (100, 0)
        assert [r["frame"] for r in hook.got("records")] == list(range(100))
    else:
        assert (output.sent, output.dropped) == (0, 100)
        assert "did not get 100 records and events" in caplog.text


@pytest.mark.usefixtures("quick")
def test_an_answer_that_takes_too_long_is_none(
    hook: Hook, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT_S", 0.3)
    hook.delay_s = 60.0
    heard: list[Event] = []
    with WebhookOutput(hook.url(), heard.append) as output:
        output.write(*sample.call())
        eventually(lambda: len(hook.asked) >= 2, "the second attempt")
        hook.released.set()
        eventually(lambda: output.sent == 1, "the answer")
    assert [e.status for e in heard] == ["lost", "connected"] and "timed out" in heard[0].message


@pytest.mark.usefixtures("quick")
def test_who_speaks_no_http_is_lost(free_port: int, sample: Any, eventually: Any) -> None:
    with socket.create_server(("127.0.0.1", free_port)) as server:

        def babble() -> None:
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(b"220 mail.farm ESMTP\r\n")

        talker = threading.Thread(target=babble)
        talker.start()
        heard: list[Event] = []
        with WebhookOutput(f"http://127.0.0.1:{free_port}/?every_s=0", heard.append) as output:
            output.write(*sample.call())
            eventually(lambda: heard, "the event")
        talker.join(10)
    assert heard[0].status == "lost"


@pytest.mark.usefixtures("quick")
def test_password_goes_to_the_server_and_nowhere_else(hook: Hook, sample: Any, eventually: Any, caplog: Any) -> None:
    hook.answers = [500, 401]
    heard: list[Event] = []
    url = f"http://robot:s3c%2Fr%40t@127.0.0.1:{hook.server_port}/services/T0KEN?key=qu3ry&every_s=0"
    with caplog.at_level(logging.DEBUG), WebhookOutput(url, heard.append) as output:
        output.write(*sample.call())
        eventually(lambda: output.dropped == 1, "refused")
        output.write(*sample.call())
        eventually(lambda: output.sent == 1, "taken")
        shown = repr(output) + " ".join(t.name for t in threading.enumerate())
    pair = base64.b64encode(b"robot:s3c/r@t").decode()
    assert hook.asked[0][1]["Authorization"] == f"Basic {pair}"
    assert [e.status for e in heard] == ["lost", "refused", "connected"]
    shown += caplog.text + " ".join(str(e) for e in heard)
    assert f"127.0.0.1:{hook.server_port}" in shown
    for secret in ("s3c", "T0KEN", "qu3ry", pair):
        assert secret not in shown


def test_much_at_once_is_sent_in_parts(hook: Hook, sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "MAX_BODY_BYTES", 5_000)
    with WebhookOutput(hook.url("/?every_s=0.2")) as output:
        for i in range(100):
            output.write(*sample.call(i))
    assert [r["frame"] for r in hook.got("records")] == list(range(100))
    assert len(hook.asked) > 5 and max(len(body) for _, _, body in hook.asked) < 6_000


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("example.com/hook", "begins with http:// or https://"),
        ("ftp://example.com", "begins with http:// or https://"),
        ("https://", "no host"),
        ("https://robot:s3cret", "host or port"),
        ("https://robot:1/s3cret@example.com", "%2F"),
        ("https://example.com?every_s=x", "every_s"),
        ("https://example.com?every_s=-1", "every_s"),
        ("https://example.com?every_s=nan", "every_s"),
        ("https://example.com?every_s=1e9", "every_s"),
    ],
)
def test_urls_that_cannot_be_meant(url: str, says: str) -> None:
    with pytest.raises(OutputError) as error:
        WebhookOutput(url)
    message = str(error.value)
    assert says in message and "s3c" not in message and "\n" not in message


@pytest.mark.parametrize(("rest", "asked"), [("", "/"), ("/grün feld?ä=ö x", "/gr%C3%BCn%20feld?%C3%A4=%C3%B6%20x")])
def test_addresses_are_encoded(hook: Hook, sample: Any, rest: str, asked: str) -> None:
    with WebhookOutput(hook.url(rest)) as output:
        output.write(*sample.call())
    assert hook.asked[0][0] == asked
