"""`Dashboard`: the stream as a web page, served from a separate thread."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from detection.runtime.dashboard.address import Address, is_loopback, reachable_at
from detection.runtime.dashboard.images import Images
from detection.runtime.dashboard.live_state import LiveState
from detection.runtime.dashboard.recorder import Recorder
from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.controls import Controls

_log = logging.getLogger(__name__)

_START_S = 20.0
_CLOSE_S = 5.0


class Dashboard(Output):
    """Live images, their age, counts, thresholds, snapshots and recordings in a browser.

    `write` keeps references and numbers, in microseconds: no image is copied, annotated or encoded there,
    and no viewer makes it wait. The newest image of each camera must not be written into afterwards.
    It listens on this machine only, unless the address says otherwise; then viewers need a token.

    Args:
        address: "8000" or "0.0.0.0:8000"; port 0 is any free one.
        controls: the stream's; viewers change its thresholds.
        cameras: names known from the start; others are added when they appear.
        record_into: the folder that the record button writes videos into.
        token: what viewers need; None: a random one where other machines reach the dashboard, else none.
        listener: receives events of recordings and changed thresholds, and is expected to pass them on to all
            outputs, this one included. None: only this page shows them.

    Attributes:
        url: what to open, with the token; for the user, not for logs.
        images: the JPEGs that viewers get.

    Raises:
        OutputError: port in use, address or token invalid, or starlette or uvicorn is not installed.

    """

    def __init__(
        self,
        address: str | int,
        controls: Controls,
        *,
        cameras: Sequence[str] = (),
        record_into: Path | str = "recordings",
        token: str | None = None,
        listener: Listener | None = None,
    ) -> None:
        try:
            import uvicorn

            from detection.runtime.dashboard.access import choose_token
            from detection.runtime.dashboard.connections import PatientConnection
            from detection.runtime.dashboard.site import Site
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn"):
                raise
            raise OutputError('the dashboard needs a web server: pip install "swath[stream]"') from None
        listening = Address.parse(address).listen()
        try:
            token = choose_token(token, loopback=is_loopback(listening))
        except OutputError:
            listening.close()
            raise
        where = reachable_at(listening)
        self.url = f"http://{where}/" + ("" if token is None else f"?token={token}")
        class_names = controls.detector.class_names
        self._state = LiveState(class_names, cameras)
        self.images = Images(self._state)
        listener = listener or self.event
        self._recorder = Recorder(Path(record_into), class_names, listener)
        self._closing = threading.Event()
        site = Site(self._state, self.images, self._recorder, controls, listener, self._closing.is_set)
        self._server = uvicorn.Server(
            uvicorn.Config(
                site.application(token=token, port=where.port),
                # Its log would go to the terminal, with tokens in it. Errors come through this module's.
                log_config=None,
                log_level=logging.CRITICAL,
                access_log=False,
                loop="asyncio",
                http=PatientConnection,
                ws="none",
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=0,
            )
        )
        # In a thread uvicorn leaves the signals alone: it handles them in the main thread only.
        self._thread = threading.Thread(target=self._serve, args=(listening,), name="dashboard", daemon=True)
        self._thread.start()
        self._wait_until_it_answers()

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Keep the image as the camera's newest."""
        self._state.add_frame(frame, detections, record)
        self._recorder.take(frame, detections, record)

    def event(self, event: Event) -> None:
        """Show what happened; unlike other outputs it takes events from any thread."""
        self._state.add_event(event)

    def close(self) -> None:
        """Finish recordings and stop listening."""
        self._closing.set()
        self._server.should_exit = True
        self._recorder.stop()
        self._thread.join(_CLOSE_S)
        self.images.workers.shutdown(wait=False, cancel_futures=True)

    def _serve(self, listening: socket.socket) -> None:
        try:
            with listening:
                asyncio.run(self._server.serve(sockets=[listening]))
        except Exception:
            _log.exception("dashboard: ended")

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.close()
                raise OutputError("dashboard: the web server did not start; the log says why")
            time.sleep(0.01)
