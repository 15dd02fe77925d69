"""`WebhookOutput`: POSTs records and events to a web server, collected over a second."""

from __future__ import annotations

import base64
import json
import logging
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, parse_qsl, quote, urlunsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from detection import __version__
from detection.runtime.deadline import Deadline
from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener, ignore_event
from detection.runtime.outputs.backlog import Backlog
from detection.runtime.outputs.contract import RECORD_SCHEMA, Output, Record
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind
from detection.runtime.outputs.link import Link, parse_address, unquote_of

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame

_log = logging.getLogger(__name__)

EVERY_S = 1.0
"""How long records are collected for one POST, where the URL has no `every_s`."""

MAX_BODY_BYTES = 1_000_000
"""Size of one POST, about; more waits for the next."""

_FORM = "webhook address https://HOST/PATH?every_s=1"
_TIMEOUT_S = 5.0
"""For a connection, and from one byte to the next."""
_EXCHANGE_S = 15.0
"""For a POST and its answer as a whole: a server may drip."""
_POLL_S = 0.5
_CLOSE_S = 0.8
# These ask for another attempt; any other 4xx, and a redirection, would be the same the next time.
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True)
class _Item:
    kind: str
    payload: bytes

    def __len__(self) -> int:
        return len(self.payload)


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow none: urllib would make a GET of our POST, and the body would be lost as if delivered."""


class _Http(HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> Any:
        return self.do_open(partial(_watched, HTTPConnection, self._deadline), req)


class _Https(HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: Request) -> Any:
        return self.do_open(partial(_watched, HTTPSConnection, self._deadline), req)


def _watched(kind: type[HTTPConnection], deadline: Deadline, host: str, **options: Any) -> HTTPConnection:
    connection = kind(host, **options)
    connection._create_connection = deadline.connect  # type: ignore[attr-defined]
    return connection


def _opener(deadline: Deadline) -> OpenerDirector:
    """Proxies as the environment says, no redirections, and connections that end with the deadline."""
    return build_opener(_NoRedirect, _Http(deadline), _Https(deadline))


class WebhookOutput(Output):
    """POSTs records with detections, and all events, as JSON. Never waits for the server.

    One body is `{"schema": 1, "records": [...], "events": [...]}`, each in the order they came: what was
    collected since the last, a second's worth unless `every_s` says otherwise. A server that is away or
    answers 5xx, 408, 425 or 429 gets the same body again, with growing pauses and the same
    `Idempotency-Key`, while the newest 4 MB wait. What it refuses (other 4xx, redirections) is dropped.

    Args:
        url: `http://` or `https://`. `every_s=` is taken out of its query (0: as soon as the last POST
            is through), all else goes to the server; `USER:PASSWORD@` becomes basic authentication.
        listener: receives an event when the server is connected, lost, refuses requests, or is back.

    Attributes:
        sent: records and events that the server accepted.

    Raises:
        OutputError: an invalid URL. A server that is off is not an error but an event.

    """

    needs_image = False

    def __init__(self, url: str, listener: Listener = ignore_event) -> None:
        parts = parse_address(url, ("http", "https"), _FORM)
        self.sent = 0
        self._every_s = _every_s(parts)
        self._url, self._headers = _public_url(parts), _headers(parts)
        # Host and port alone: of many services the path is the secret.
        self._shown = parts.netloc.rpartition("@")[2]
        self._link = Link("webhook", listener)
        self._backlog: Backlog[_Item] = Backlog()
        self._batch: Sequence[_Item] = ()
        self._closing = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Records and events that were not sent and will not be."""
        return self._backlog.dropped

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Queue a record, if it has detections; returns at once."""
        if record["detections"]:
            self._put("records", record)

    def event(self, event: Event) -> None:
        """Queue an event; returns at once."""
        self._put("events", event.to_json())

    def _put(self, kind: str, content: Any) -> None:
        self._backlog.put(_Item(kind, json.dumps(content, separators=(",", ":"), allow_nan=False).encode()))

    def close(self) -> None:
        """Send what can be sent within a second; safe to call twice."""
        if self._closed:
            return
        self._closing.set()
        self._backlog.wake()
        self._thread.join(_CLOSE_S)  # a thread that waits for an answer ends with its timeout
        self._closed = True
        self._backlog.lose(len(self._batch))
        self._backlog.clear()
        if self.dropped:
            _log.warning("webhook: %s did not get %d records and events", self._shown, self.dropped)

    # --- all below runs in the thread ---

    def _run(self) -> None:
        while not self._closed:
            item = self._backlog.take(0.0 if self._closing.is_set() else _POLL_S)
            if item is None:
                if self._closing.is_set():
                    return
                continue
            self._closing.wait(self._every_s)
            batch, size = [item], len(item)
            while size < MAX_BODY_BYTES and (item := self._backlog.take(0.0)) is not None:
                batch.append(item)
                size += len(item)
            self._batch = batch
            if not self._deliver(batch):
                return
            self._batch = ()

    def _deliver(self, batch: Sequence[_Item]) -> bool:
        """Send until the server accepts or refuses it; False where the output was closed first."""
        records, events = (
            b",".join(item.payload for item in batch if item.kind == kind) for kind in ("records", "events")
        )
        body = b'{"schema":%d,"records":[%s],"events":[%s]}' % (RECORD_SCHEMA, records, events)
        request = Request(self._url, body, {**self._headers, "Idempotency-Key": str(uuid.uuid4())}, method="POST")
        while True:
            try:
                with Deadline(_EXCHANGE_S) as deadline:
                    try:
                        with _opener(deadline).open(request, timeout=_TIMEOUT_S):
                            pass
                    except Exception:
                        deadline.check()
                        raise
            except Exception as error:  # after any error the next attempt may work
                answer = error.code if isinstance(error, HTTPError) else None
                reason = f"no whole answer within {_EXCHANGE_S:g} s" if deadline.passed else _reason(error)
                if isinstance(error, HTTPError):
                    error.close()
            else:
                if not self._closed:
                    self.sent += len(batch)
                    self._link.up(f"{self._shown} is there" + self._gaps())
                return True
            if self._closed:
                return False
            refused = answer is not None and answer < 500 and answer not in _TRY_AGAIN
            if refused:
                self._backlog.lose(len(batch))
                self._link.down("refused", f"{self._shown} refuses requests: {reason}")
            else:
                self._link.down("lost", f"{self._shown} is away: {reason}; trying again")
            if self._closing.wait(self._link.pause_s()) or refused:
                return refused

    def _gaps(self) -> str:
        return f"; {self.dropped} records and events were dropped" if self.dropped else ""


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}".rstrip()
    cause = error.reason if isinstance(error, URLError) else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _every_s(parts: SplitResult) -> float:
    given = dict(parse_qsl(parts.query)).get("every_s", EVERY_S)
    try:
        every_s = float(given)
    except ValueError:
        every_s = -1.0
    if not 0 <= every_s <= 3600:
        raise OutputError(f"{_FORM}: every_s is a number of seconds, 0 to 3600")
    return every_s


def _public_url(parts: SplitResult) -> str:
    """The URL that the server sees: percent-encoded, without user, password, `every_s` and fragment."""
    query = "&".join(p for p in parts.query.split("&") if p.partition("=")[0] != "every_s")
    kept = "/%:@!$&'()*+,;=~?"
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, quote(parts.path or "/", kept), quote(query, kept), ""))


def _headers(parts: SplitResult) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": f"swath/{__version__}"}
    user = unquote_of(parts.username)
    if user is not None:
        pair = f"{user}:{unquote_of(parts.password) or ''}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers


def _open(url: str, context: OutputContext) -> list[Output]:
    return [WebhookOutput(url, context.listener)]


KIND = OutputKind(
    key="webhook",
    about="records and events by POST to an http or https URL",
    settings=str,
    opens=_open,
    flags=(Flag("URL", "POST detections and events there as JSON."),),
    panel=NETWORK,
    example="https://farm.example/hooks/swath?every_s=1",
    queued=False,
    secret=True,
)
