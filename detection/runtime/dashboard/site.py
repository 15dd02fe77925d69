"""`Site`: the dashboard's pages and API, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from detection.runtime.dashboard.access import Access
from detection.runtime.dashboard.images import WIDTHS, Images, pack
from detection.runtime.dashboard.live_state import LiveState
from detection.runtime.dashboard.recorder import Recorder
from detection.runtime.dashboard.snapshots import Snapshots
from detection.runtime.draw import class_colour
from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener
from detection.runtime.streaming.controls import Controls

_log = logging.getLogger(__name__)

_PAGE = Path(__file__).with_name("page")
_WAIT_S = 1.0
"""A request for a newer image is answered after this time, without one if there is none."""

_BODY_BYTES = 16_384


class _Refused(Exception):
    """A request that is refused: status and reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass
class Site:
    """What the pages show and control.

    Attributes:
        live: frames, ages, counts, events.
        images: the JPEGs.
        recorder: the videos.
        controls: current thresholds and model.
        listener: receives an event when thresholds are changed.
        closing: True ends waiting requests.

    """

    live: LiveState
    images: Images
    recorder: Recorder
    controls: Controls
    listener: Listener
    closing: Callable[[], bool]

    def __post_init__(self) -> None:
        self._snapshots = Snapshots()

    def application(self, *, token: str | None, port: int) -> ASGIApp:
        """The ASGI application, behind access control."""
        files = {path.name: path.read_bytes() for path in _PAGE.iterdir() if path.is_file()}
        refused = files.pop("token.html").decode()
        pages = [_page("/" if name == "index.html" else f"/{name}", name, body) for name, body in files.items()]
        app = Starlette(
            routes=[
                *pages,
                Route("/api/state", self._state),
                Route("/api/events", self._events),
                Route("/api/images", self._images),
                Route("/api/thresholds", self._set_thresholds, methods=["POST"]),
                Route("/api/recording", self._set_recording, methods=["POST"]),
                Route("/api/snapshots", self._take_snapshot, methods=["POST"]),
                Route("/api/snapshots/{number:int}/{kind}", self._snapshot),
            ],
            exception_handlers={_Refused: _refusal, Exception: _failure},
        )
        return Access(app, token=token, port=port, refused=refused)

    async def _state(self, request: Request) -> Response:
        received_ns = time.monotonic_ns()
        detector = self.controls.detector
        names = self.live.class_names
        state = {
            "schema": 1,
            "model": detector.path.name,
            "classes": [{"name": name, "colour": _hex_colour(label)} for label, name in enumerate(names)],
            "thresholds": {
                "score": dict(zip(names, map(_tidy, self.controls.score_thresholds), strict=False)),
                "model": dict(zip(names, map(_tidy, detector.metadata.score_thresholds), strict=False)),
                "lowest": _tidy(detector.metadata.pre_nms_score_threshold),
            },
            "recording": self.recorder.to_json(),
            **self.live.to_json(),
            "received_ns": received_ns,
            "now_ns": time.monotonic_ns(),
        }
        return JSONResponse(state)

    async def _events(self, request: Request) -> Response:
        try:
            after = int(request.query_params.get("after", "0"))
        except ValueError:
            raise _Refused(400, "after must be the number of an event") from None
        return JSONResponse({"events": self.live.events(after)})

    async def _images(self, request: Request) -> Response:
        received_ns = time.monotonic_ns()
        size = request.query_params.get("size", "small")
        if size not in WIDTHS:
            raise _Refused(400, f"size must be one of {', '.join(WIDTHS)}")
        have: dict[str, int] = {}
        for text in request.query_params.getlist("have"):
            serial, _, camera = text.partition(":")
            if not serial.isdecimal():
                raise _Refused(400, "have must be SERIAL:CAMERA, the serial of the image that you have, or 0")
            have[camera] = int(serial)
        found = await self.images.newer(have, size, wait_s=_WAIT_S, given_up=self.closing)
        body = pack({"received_ns": received_ns, "now_ns": time.monotonic_ns()}, found)
        return Response(body, media_type="application/octet-stream")

    async def _set_thresholds(self, request: Request) -> Response:
        wanted = (await _body(request)).get("score")
        names = self.live.class_names
        scores = dict(zip(names, self.controls.score_thresholds, strict=False))
        if not isinstance(wanted, dict) or not wanted:
            raise _Refused(400, 'send {"score": {CLASS: NUMBER}}')
        for name, value in wanted.items():
            if name not in scores:
                raise _Refused(400, f"there is no class {name!r}")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise _Refused(400, f"the threshold of {name!r} must be from 0 to 1")
            scores[name] = float(value)
        self.controls.set_score_thresholds(list(scores.values()))
        changes = ", ".join(f"{name} {value:.2f}" for name, value in wanted.items())
        self.listener(Event("model", self.controls.detector.path.name, "thresholds", changes))
        return JSONResponse({"score": {name: _tidy(value) for name, value in scores.items()}})

    async def _set_recording(self, request: Request) -> Response:
        on = (await _body(request)).get("on")
        if not isinstance(on, bool):
            raise _Refused(400, 'send {"on": true} or {"on": false}')
        try:
            await asyncio.to_thread(self.recorder.start if on else self.recorder.stop)
        except OutputError as error:
            raise _Refused(507, str(error)) from None
        return JSONResponse(self.recorder.to_json())

    async def _take_snapshot(self, request: Request) -> Response:
        camera = (await _body(request)).get("camera")
        shown = self.live.newest().get(camera) if isinstance(camera, str) else None
        if shown is None:
            raise _Refused(404, f"there is no image of {camera!r} yet")
        about = {
            "model": self.controls.detector.path.name,
            "score_thresholds": dict(zip(self.live.class_names, self.controls.score_thresholds, strict=False)),
        }
        loop = asyncio.get_running_loop()
        number, names = await loop.run_in_executor(
            self.images.workers, self._snapshots.take, shown, self.live.class_names, about
        )
        files = {kind: {"name": name, "url": f"/api/snapshots/{number}/{kind}"} for kind, name in names.items()}
        return JSONResponse({"camera": camera, "files": files})

    async def _snapshot(self, request: Request) -> Response:
        found = self._snapshots.file(request.path_params["number"], request.path_params["kind"])
        if found is None:
            raise _Refused(404, "this snapshot is no longer kept; take another")
        name, content = found
        media_type = "application/json" if name.endswith(".json") else "image/jpeg"
        disposition = f"attachment; filename*=utf-8''{quote(name)}"
        return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})


def _page(path: str, name: str, body: bytes) -> Route:
    media_type = {".js": "text/javascript"}.get(Path(name).suffix) or mimetypes.guess_type(name)[0]

    async def page(request: Request) -> Response:
        return Response(body, media_type=media_type)

    return Route(path, page)


async def _body(request: Request) -> dict[str, Any]:
    """The request's JSON object, which must be small.

    A form of another site cannot send this media type without a preflight request.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise _Refused(415, "send application/json")
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > _BODY_BYTES:
            raise _Refused(413, "the request is too long")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):  # the latter: nested too deep
        found = None
    if not isinstance(found, dict):
        raise _Refused(400, "send a JSON object")
    return found


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return JSONResponse({"error": str(error)}, error.status)


async def _failure(request: Request, error: Exception) -> Response:
    _log.warning("dashboard: %s failed: %r", request.url.path, error)
    return JSONResponse({"error": "internal error; see the stream's log"}, 500)


def _hex_colour(label: int) -> str:
    blue, green, red = class_colour(label)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _tidy(value: float) -> float:
    """A float32 in short form: 0.7, not 0.699999988079071."""
    return round(float(value), 4)
