"""Cameras by HTTP as they are: snapshots, Motion JPEG that is not by the book, passwords of all kinds."""

from __future__ import annotations

import base64
import hashlib
import http.server
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.cameras.sources import camera_settings, open_source, open_sources
from detection.runtime.cameras.web_images import jpeg_end
from detection.runtime.errors import SourceError

PASSWORD = "p#ss@1?/é"


def _jpeg(level: int, thumbnail: bool = False) -> bytes:
    jpeg: bytes = cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes()
    if not thumbnail:
        return jpeg
    inside = b"Exif\0\0" + jpeg
    return jpeg[:2] + b"\xff\xe1" + (len(inside) + 2).to_bytes(2, "big") + inside + jpeg[2:]


class Camera(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, kind: str, auth: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind, self.auth = kind, auth
        self.asked = itertools.count(1)
        self.requests = 0
        self.address = f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Viewers leave in mid-stream."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Camera

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/cam")
            self.end_headers()
            return
        if self.server.auth and not _knows(self.headers.get("Authorization", ""), self.path, self.server.auth):
            self.send_response(401)
            for challenge in CHALLENGES[self.server.auth]:
                self.send_header("WWW-Authenticate", challenge)
            self.end_headers()
            return
        getattr(self, f"_{self.server.kind}")()

    def _head(self, content_type: str, length: int | None = None) -> None:
        self.send_response(200)
        if content_type:
            self.send_header("Content-Type", content_type)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _snapshot(self, content_type: str = "image/jpeg", *, sized: bool = True, same: bool = False) -> None:
        jpeg = _jpeg(100 if same else 10 * next(self.server.asked) % 250, thumbnail=True)
        self._head(content_type, len(jpeg) if sized else None)
        self.wfile.write(jpeg)

    def _unsized(self) -> None:
        self._snapshot(sized=False)

    def _untyped(self) -> None:
        self._snapshot("application/octet-stream")

    def _still(self) -> None:
        self._snapshot(same=True)

    def _page(self) -> None:
        self._head("text/html; charset=utf-8")
        self.wfile.write(b"<html>log in</html>")

    def _drip(self) -> None:
        self._head("image/jpeg", 1000)
        for _ in range(1000):
            self.wfile.write(b"\xff")
            time.sleep(0.1)

    def _dripping(self) -> None:
        """Two whole images, and then a byte now and then."""
        self._head("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(b"--frame\r\n\r\n" + _jpeg(10) + b"\r\n--frame\r\n\r\n" + _jpeg(20) + b"\r\n--frame\r\n\r\n")
        for byte in _jpeg(30)[:100]:
            self.wfile.write(bytes([byte]))
            time.sleep(0.1)

    def _stream(self, *, boundary: str = "frame", first: bool = True, sized: int = 0, typed: bool = True) -> None:
        self._head(f"multipart/x-mixed-replace; boundary={boundary}" if typed else "")
        delimiter = b"--" + boundary.strip('"').lstrip("-").encode()
        for number in itertools.count(1):
            jpeg = _jpeg(10 * number % 250, thumbnail=True)
            length = b"" if sized is None else b"Content-Length: %d\r\n" % (len(jpeg) + sized)
            head = b"Content-Type: image/jpeg\r\n" + length + b"\r\n"
            if first:
                self.wfile.write(delimiter + b"\r\n" + head + jpeg + b"\r\n")
            else:
                self.wfile.write(head + jpeg + b"\r\n" + delimiter + b"\r\n")
            self.wfile.flush()
            time.sleep(0.02)

    def _book(self) -> None:
        self._stream()

    def _nolength(self) -> None:
        self._stream(sized=None)  # type: ignore[arg-type]

    def _wronglength(self) -> None:
        self._stream(sized=-300)

    def _dashes(self) -> None:
        self._stream(boundary="--frame")

    def _quoted(self) -> None:
        self._stream(boundary='"frame"')

    def _nofirst(self) -> None:
        self._stream(first=False)

    def _noheader(self) -> None:
        self._stream(typed=False)

    def _bare(self) -> None:
        """JPEGs one after another, as `image/jpeg`."""
        self._head("image/jpeg")
        for number in itertools.count(1):
            self.wfile.write(_jpeg(10 * number % 250))
            self.wfile.flush()
            time.sleep(0.02)


CHALLENGES = {
    "basic": ['Basic realm="cam"'],
    "md5": ['Digest realm="cam", nonce="abc", qop="auth,auth-int"'],
    "old": ['Digest realm="cam", nonce="abc"'],
    "sha-256": ['Digest realm="cam", nonce="abc", algorithm=SHA-256, qop="auth", opaque="x,y"'],
    "several": ['Digest realm="cam", nonce="abc", algorithm=MD5, qop="auth", Basic realm="cam"',
                'Digest realm="cam", nonce="abc", algorithm=SHA-256, qop="auth"'],
    "unknown": ['Digest realm="cam", nonce="abc", algorithm=SHA-3, qop="auth"'],
}  # fmt: skip


def _knows(given: str, path: str, auth: str) -> bool:
    if auth == "basic":
        return given == "Basic " + base64.b64encode(f"farm:{PASSWORD}".encode()).decode()
    fields = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', given)}
    name = "sha256" if auth in ("sha-256", "several") else "md5"

    def of(text: str) -> str:
        return hashlib.new(name, text.encode()).hexdigest()

    first, second = of(f"farm:cam:{PASSWORD}"), of(f"GET:{path}")
    middle = "abc" if "qop" not in fields else f"abc:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
    return fields.get("response") == of(f"{first}:{middle}:{second}")


@pytest.fixture
def web_camera() -> Iterator[Callable[..., Camera]]:
    started: list[tuple[Camera, threading.Thread]] = []

    def start(kind: str, auth: str = "") -> Camera:
        camera = Camera(kind, auth)
        thread = threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((camera, thread))
        return camera

    yield start
    for camera, thread in started:
        camera.shutdown()
        camera.server_close()
        thread.join(5)


def _levels(url: str, count: int, told: Any = None, **settings: Any) -> list[int]:
    """Grey levels of the first images, in tens."""
    (source,) = open_sources([camera_settings(url, **settings)], **({} if told is None else {"on_event": told}))
    with source:
        levels, until_s = [], time.monotonic() + 20
        while len(levels) < count and time.monotonic() < until_s:
            frame = source.poll(0.1)
            if frame is not None:
                levels.append(round(float(frame.image.mean()) / 10))
        assert source.unreadable == 0
    return levels


@pytest.mark.parametrize("kind", ["snapshot", "unsized", "untyped"])
def test_an_address_of_one_image_is_a_camera(web_camera: Any, told: Any, kind: str) -> None:
    camera = web_camera(kind)
    started_s = time.monotonic()
    levels = _levels(f"http://{camera.address}/snap.jpeg", 6, told, max_fps=10)
    assert levels == list(range(levels[0], levels[0] + 6))  # none twice, none left out
    assert 0.45 < time.monotonic() - started_s < 5 and camera.requests <= 9
    assert told.statuses == ["starting", "live", "ended"]


def test_a_still_image_is_one_image_of_a_camera_that_is_well(
    web_camera: Any, told: Any, caplog: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("detection.runtime.cameras.web_images._SAME_FOR_S", 0.5)
    address = web_camera("still").address
    (source,) = open_sources([camera_settings(f"http://{address}/x.jpg", read_timeout_s=0.4)], on_event=told)
    with source:
        frames = [source.poll(0.1) for _ in range(15)]
    assert sum(frame is not None for frame in frames) == 1
    assert told.statuses == ["starting", "live", "ended"]
    assert caplog.text.count("is it a still image?") == 1


@pytest.mark.parametrize(
    "kind", ["book", "nolength", "wronglength", "dashes", "quoted", "nofirst", "noheader", "bare"]
)
def test_motion_jpeg_in_all_its_forms(web_camera: Any, told: Any, kind: str) -> None:
    levels = _levels(f"http://{web_camera(kind).address}/cam.mjpg", 5, told)
    assert levels == sorted(levels) and len(set(levels)) == 5
    assert told.statuses == ["starting", "live", "ended"]


@pytest.mark.parametrize("auth", ["basic", "md5", "old", "sha-256", "several"])
@pytest.mark.parametrize("written", [PASSWORD, "p%23ss%401%3F%2F%C3%A9"], ids=["pasted", "encoded"])
def test_passwords(web_camera: Any, auth: str, written: str) -> None:
    address = web_camera("book", auth).address
    assert len(_levels(f"http://farm:{written}@{address}/cam?x=1", 2)) == 2


def test_a_password_that_cannot_be_given_is_a_refusal(web_camera: Any, told: Any) -> None:
    camera = web_camera("book", "unknown")
    (source,) = open_sources([f"http://farm:secret1@{camera.address}/cam"], on_event=told)
    with source:
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            source.poll(0.1)
    assert camera.requests == 2  # asked once, not again and again
    assert "takes passwords by Digest SHA-3 only" in told.events[1].message and "secret1" not in repr(told.events)


def test_redirections_pages_and_drips(web_camera: Any) -> None:
    assert len(_levels(f"http://{web_camera('book').address}/elsewhere", 2)) == 2
    with pytest.raises(SourceError, match=r"answers with a page \(text/html\)"):
        open_source(f"http://{web_camera('page').address}/cam")
    started_s = time.monotonic()
    with pytest.raises(SourceError, match=r"no video from there within 0\.5 s"):
        open_source(camera_settings(f"http://{web_camera('drip').address}/cam", open_timeout_s=0.5))
    assert time.monotonic() - started_s < 3


def test_a_stream_that_drips_is_lost_and_opened_again(web_camera: Any, told: Any, here: Any) -> None:
    camera = web_camera("dripping")
    url = f"http://{camera.address}/cam"
    (source,) = open_sources([camera_settings(url, name="drips", read_timeout_s=0.5)], on_event=told)
    with source:
        until_s = time.monotonic() + 30
        while told.count("lost") < 5 and time.monotonic() < until_s:
            source.poll(0.05)
        assert told.count("lost") >= 5 and source.abandoned <= 1
    assert "driver hangs" not in repr(told.events)


def test_where_a_jpeg_ends() -> None:
    for jpeg in (_jpeg(7), _jpeg(7, thumbnail=True)):
        assert jpeg_end(jpeg) == jpeg_end(jpeg + jpeg) == len(jpeg)
        assert all(jpeg_end(jpeg[:length]) == -1 for length in range(len(jpeg)))
