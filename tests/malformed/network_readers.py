"""What comes over the network: answers of HTTP and RTSP cameras, and requests to the dashboard."""

from __future__ import annotations

import json
import random
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from tests.malformed.model_readers import tiny_model
from tests.malformed.mutations import absurd, damaged_bytes
from tests.malformed.reader import Malform, Read, Reader

_WITHIN_S = 3.0


class _Server:
    """Gives each connection the same bytes, one after another as small cameras do, and hangs up."""

    def __init__(self) -> None:
        self.answer = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._listening.accept()[0] as connection, suppress(OSError):
                connection.settimeout(_WITHIN_S)
                connection.recv(65536)
                connection.sendall(self.answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


def _http_camera(folder: Path) -> Malform:
    from detection.runtime.cameras.opening import open_images
    from detection.runtime.cameras.settings import LiveSettings
    from detection.runtime.errors import SourceError

    server = _Server()
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))[1].tobytes()
    part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
    seeds = (
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s" % (len(jpeg), jpeg),
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n" + 2 * part,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: image/jpeg\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(jpeg), jpeg),
        b'HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm="cam", nonce="1", qop="auth", algorithm=SHA-256\r\n\r\n',
        b"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:%d/other\r\n\r\n" % server.port,
    )
    url = f"http://farm:secret@127.0.0.1:{server.port}/cam"
    settings = LiveSettings(name="front", source=url, open_timeout_s=_WITHIN_S)

    def malform(chance: random.Random) -> Read:
        content = chance.choice(seeds)
        head, _, body = content.partition(b"\r\n\r\n")
        if chance.random() < 0.5:  # damage where most of the meaning is
            content = damaged_bytes(chance, head) + b"\r\n\r\n" + body
        else:
            content = damaged_bytes(chance, content)
        server.answer = content

        def read() -> None:
            opened = open_images(settings, _WITHIN_S)
            if opened is None:
                raise SourceError(f"{url}: left to FFmpeg")
            try:
                if opened.capture.grab():
                    opened.capture.retrieve()
            finally:
                opened.capture.release()

        return read

    return malform


def _rtsp_camera(folder: Path) -> Malform:
    from detection.runtime.cameras.refusals import why_refused
    from detection.runtime.errors import SourceError

    server = _Server()
    seeds = (
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n",
        b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm="cam", nonce="7"\r\n\r\n',
        b'RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="cam"\r\n\r\n',
        b"RTSP/1.0 454 Session Not Found\r\nCSeq: 1\r\n\r\n",
    )
    url = f"rtsp://farm:secret@127.0.0.1:{server.port}/cam"

    def malform(chance: random.Random) -> Read:
        server.answer = damaged_bytes(chance, chance.choice(seeds))

        def read() -> None:
            refusal = why_refused(url, _WITHIN_S)
            if refusal is not None:
                assert "secret" not in refusal.reason
                raise SourceError(f"the camera: {refusal.reason}")

        return read

    return malform


def _dashboard(folder: Path) -> Malform:
    from detection.runtime.dashboard.dashboard import Dashboard
    from detection.runtime.detector import Detector
    from detection.runtime.errors import OutputError
    from detection.runtime.streaming.controls import Controls

    controls = Controls(Detector(tiny_model().write(folder / "m.onnx"), threads=1))
    dashboard = Dashboard("127.0.0.1:0", controls, cameras=["front"], record_into=folder / "videos")
    port = int(dashboard.url.rstrip("/").rpartition(":")[2])
    posts = (
        ("/api/thresholds", {"score": {"weed": 0.5, "crop": 1}}),
        ("/api/recording", {"on": False}),
        ("/api/snapshots", {"camera": "front"}),
    )
    gets = ("/", "/api/state", "/api/events?after=0", "/api/snapshots/3/image", "/style.css")

    def request(path: str, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + (body or b"")

    def malform(chance: random.Random) -> Read:
        if chance.random() < 0.5:
            path, content = chance.choice(posts)
            text = json.dumps(absurd(chance, content)).encode()
            sent = request(path, damaged_bytes(chance, text) if chance.random() < 0.5 else text)
        else:
            sent = damaged_bytes(chance, request(chance.choice(gets), None))
        return partial(exchange, sent)

    def exchange(sent: bytes) -> None:
        answer = b""
        with socket.create_connection(("127.0.0.1", port), _WITHIN_S) as connection:
            with suppress(OSError):  # it may hang up, or wait for the rest of what is only a part of a request
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(65536):
                    answer += more
        status = answer.split(b" ")[1] if answer.startswith(b"HTTP/") else b"400"
        assert status < b"500", f"{sent[:200]!r}: {answer[:200]!r}"
        if status >= b"400":
            raise OutputError(f"the dashboard refuses with {status.decode()}")

    return malform


READERS = (
    Reader("HTTP camera", _http_camera, cost=4),
    Reader("RTSP camera", _rtsp_camera, cost=4),
    Reader("dashboard request", _dashboard, cost=4),
)
