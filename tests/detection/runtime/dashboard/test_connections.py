from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from detection.runtime.dashboard import connections


@pytest.fixture
def connect() -> Iterator[Any]:
    made: list[socket.socket] = []

    def connect(dashboard: Any, sent: bytes = b"") -> socket.socket:
        one = socket.create_connection(("127.0.0.1", urlsplit(dashboard.url).port), 20)
        made.append(one)
        one.sendall(sent)
        return one

    yield connect
    for one in made:
        one.close()


def _is_closed(connection: socket.socket, within_s: float) -> bool:
    connection.settimeout(within_s)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: loc"], ids=["nothing", "half a request"])
def test_idle_connections_lock_nobody_out(open_dashboard: Any, request_to: Any, connect: Any, sent: bytes) -> None:
    dashboard = open_dashboard()
    idle = [connect(dashboard, sent) for _ in range(150)]
    started_s = time.monotonic()
    assert request_to(dashboard, "/api/state")[0] == 200
    assert time.monotonic() - started_s < 5
    assert sum(_is_closed(one, 0.05) for one in idle) >= 150 - connections.MAX_CONNECTIONS


@pytest.mark.parametrize("headers", [b"", b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"])
def test_a_request_that_is_not_whole_in_time_is_closed(
    open_dashboard: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, headers: bytes
) -> None:
    monkeypatch.setattr(connections, "WHOLE_REQUEST_S", 0.5)
    dashboard = open_dashboard()
    one = connect(dashboard, b"POST /api/thresholds HTTP/1.1\r\nHost: localhost\r\n" + headers)
    until_s = time.monotonic() + 10
    with suppress(OSError):
        while time.monotonic() < until_s:  # drips on: each byte would begin a time of its own
            one.sendall(b" " if headers else b"X")
            time.sleep(0.05)
    assert time.monotonic() < until_s and _is_closed(one, 5)


def test_a_viewer_that_asks_goes_on(open_dashboard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one of silence: not of a connection that is used again and again."""
    monkeypatch.setattr(connections, "WHOLE_REQUEST_S", 0.6)
    dashboard = open_dashboard()
    viewer = http.client.HTTPConnection("127.0.0.1", urlsplit(dashboard.url).port, timeout=20)
    for _ in range(6):
        viewer.request("GET", "/api/images")  # waits a second for an image
        answer = viewer.getresponse()
        assert answer.status == 200 and answer.read()
        time.sleep(0.2)
    viewer.close()


def test_json_without_end_is_a_refusal(open_dashboard: Any, request_to: Any) -> None:
    dashboard = open_dashboard()
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(dashboard.url).port, timeout=20)
    for body in ("[" * 16_000, '{"score":' * 1_700, "{", "NaN", '{"score": {"weed": 1e999}}'):
        connection.request("POST", "/api/thresholds", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 400 and json.loads(answer.read())["error"]
    connection.close()
