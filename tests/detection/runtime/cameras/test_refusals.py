from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from detection.runtime.cameras.refusals import why_refused


class _Guarded(http.server.ThreadingHTTPServer):
    daemon_threads = True
    scheme = "Digest"


class _Handler(http.server.BaseHTTPRequestHandler):
    """User farm, password s/e?c:ret."""

    server: _Guarded

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        if self.path == "/gone":
            self.send_response(404)
        elif self.path.startswith("/open") or self._right(given):
            self.send_response(200)
        else:
            self.send_response(401)
            extra = ', nonce="abc", qop="auth"' if self.server.scheme == "Digest" else ""
            self.send_header("WWW-Authenticate", f'{self.server.scheme} realm="cam"{extra}')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _right(self, given: str) -> bool:
        if self.server.scheme == "Basic":
            return given == "Basic ZmFybTpzL2U/YzpyZXQ="
        fields = dict(part.strip().split("=", 1) for part in given.removeprefix("Digest ").split(",") if "=" in part)
        fields = {name: value.strip('"') for name, value in fields.items()}

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        first, second = md5("farm:cam:s/e?c:ret"), md5(f"GET:{self.path}")
        middle = f"{fields.get('nonce')}:{fields.get('nc')}:{fields.get('cnonce')}:{fields.get('qop')}"
        return fields.get("response") == md5(f"{first}:{middle}:{second}")


@pytest.fixture
def guarded() -> Iterator[_Guarded]:
    server = _Guarded(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize("scheme", ["Digest", "Basic"])
def test_right_and_wrong_passwords(guarded: _Guarded, scheme: str) -> None:
    guarded.scheme = scheme
    host = f"127.0.0.1:{guarded.server_port}"
    assert why_refused(f"http://farm:s/e?c:ret@{host}/cam?x=1", 5) is None
    for credentials in ("", "farm:wrong@", "farm@"):
        refusal = why_refused(f"http://{credentials}{host}/cam", 5)
        assert refusal is not None and refusal.credentials
        assert refusal.reason == "it refuses user or password (401)"


def test_other_answers(guarded: _Guarded) -> None:
    host = f"127.0.0.1:{guarded.server_port}"
    assert why_refused(f"http://{host}/open", 5) is None
    gone = why_refused(f"http://{host}/gone", 5)
    assert gone is not None and not gone.credentials and "404" in gone.reason
    assert why_refused("rtmp://host/x", 5) is None  # not asked
    wrong = why_refused("rtsp://host:port/x", 5)
    assert wrong is not None and "address" in wrong.reason


def test_nobody_and_silence() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        refusal = why_refused(f"rtsp://127.0.0.1:{port}/x", 2)
        assert refusal is not None and refusal.reason == "nothing listens there"
        nobody.listen()
        refusal = why_refused(f"rtsp://127.0.0.1:{port}/x", 0.2)
        assert refusal is not None and refusal.reason == "no answer within 0.2 s"


def test_a_digest_that_ffmpeg_does_not_know_is_a_refusal() -> None:
    """Not a loss, which would be asked again twice a second until the account is locked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            viewer, _ = server.accept()
            viewer.recv(1000)
            viewer.sendall(
                b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n"
                b'WWW-Authenticate: Digest realm="cam", nonce="abc", algorithm=SHA-256, qop="auth"\r\n\r\n'
            )
            viewer.close()

        talker = threading.Thread(target=talk)
        talker.start()
        refusal = why_refused(f"rtsp://farm:secret1@127.0.0.1:{server.getsockname()[1]}/x", 5)
        talker.join(5)
    assert refusal is not None and refusal.credentials
    assert "takes passwords by Digest SHA-256 only" in refusal.reason and "secret1" not in refusal.reason


def test_rubbish_is_no_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            viewer, _ = server.accept()
            viewer.recv(1000)
            viewer.sendall(b"\0\xff" * 100)
            viewer.close()

        talker = threading.Thread(target=talk)
        talker.start()
        assert why_refused(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x", 5) is None
        talker.join(5)


@pytest.mark.parametrize(("scheme", "first"), [("http", "password"), ("http", "elsewhere"), ("rtsp", "password")])
def test_a_camera_of_one_client_at_a_time_is_asked_twice(scheme: str, first: str) -> None:
    """As on an ESP32: the second connection is taken when the first has been closed."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    name = "HTTP/1.1" if scheme == "http" else "RTSP/1.0"
    asks = f'{name} 401 No\r\nWWW-Authenticate: Basic realm="cam"\r\n\r\n'
    leads = f"{name} 302 There\r\nLocation: http://127.0.0.1:{port}/there\r\n\r\n"
    answers = [asks if first == "password" else leads, f"{name} 404 Not there\r\n\r\n"]

    def serve() -> None:
        for answer in answers:
            with listening.accept()[0] as client:
                client.recv(65536)
                client.sendall(answer.encode())
                while client.recv(65536):
                    pass

    served = threading.Thread(target=serve, daemon=True)
    served.start()
    with listening:
        refusal = why_refused(f"{scheme}://farm:geheim@127.0.0.1:{port}/cam", 5.0)
        served.join(5.0)
    assert refusal is not None and refusal.reason == "it knows no stream of this path (404)"
