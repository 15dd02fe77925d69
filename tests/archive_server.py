"""A small file server on this machine, good and bad: for tests that fetch."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ArchiveServer:
    """What it serves, how it misbehaves, and what it was asked."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True  # False: it answers every request with the whole file
    etag: str | None = '"one"'
    sizes: bool = True  # False: no Content-Length, as for archives that are packed while they are sent
    drop_after: list[int] = field(default_factory=list)  # body bytes of each answer, after which it hangs up
    answers: list[int] = field(default_factory=list)  # statuses to give before it answers properly
    redirect: str | None = None
    hold: threading.Event | None = None  # after the first half of a body it waits for this
    asked: list[str | None] = field(default_factory=list)  # the Range of each request
    sent: list[int] = field(default_factory=list)  # body bytes of each answer


@contextmanager
def serving(**files: bytes) -> Iterator[ArchiveServer]:
    """A server on a free port; `files` by name, "__" for a dot. It stops with the block."""
    state = ArchiveServer({f"/{name.replace('__', '.')}": content for name, content in files.items()})

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, state)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is part of the tests

    with Server(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join(10)


def answer(handler: BaseHTTPRequestHandler, state: ArchiveServer) -> None:
    """One request."""
    wanted = handler.headers.get("Range")
    state.asked.append(wanted)
    handler.close_connection = True
    if state.answers:
        return headers(handler, state.answers.pop(0), {"Content-Length": "0"})
    if state.redirect is not None:
        return headers(handler, 302, {"Location": state.redirect, "Content-Length": "0"})
    whole = state.files.get(handler.path.partition("?")[0])
    if whole is None:
        return headers(handler, 404, {"Content-Length": "0"})
    start, status, said = 0, 200, {}
    if state.etag:
        said["ETag"] = state.etag
    unchanged = handler.headers.get("If-Range") in (None, state.etag)
    if wanted and state.ranges and unchanged:
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(whole):
            return headers(handler, 416, {"Content-Range": f"bytes */{len(whole)}", "Content-Length": "0"})
        status = 206
        said["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
    body = whole[start:]
    if state.sizes:
        said["Content-Length"] = str(len(body))
    headers(handler, status, said)
    body = body[: state.drop_after.pop(0)] if state.drop_after else body
    state.sent.append(len(body))
    half = len(body) // 2 if state.hold else 0
    handler.wfile.write(body[:half])
    if state.hold:
        state.hold.wait(60)
    handler.wfile.write(body[half:])


def headers(handler: BaseHTTPRequestHandler, status: int, said: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in said.items():
        handler.send_header(name, value)
    handler.end_headers()
