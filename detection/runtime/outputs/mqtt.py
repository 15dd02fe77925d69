"""`MqttOutput`: publishes records and events to an MQTT broker, which may be absent for any time."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detection.runtime.events import Event, Listener, ignore_event
from detection.runtime.outputs.backlog import Backlog
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind, Package
from detection.runtime.outputs.link import Link, parse_address
from detection.runtime.outputs.mqtt_client import FORM, PORTS, client_for, options_of, prefix_of

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessageInfo

    from detection.runtime.detections import Detections, Frame

_log = logging.getLogger(__name__)

_MAX_IN_FLIGHT = 20
_ACKNOWLEDGED_WITHIN_S = 10.0
_POLL_S = 0.05
_FLUSH_S = 0.5
_CLOSE_S = 0.8


@dataclass(frozen=True)
class _Message:
    topic: str
    payload: bytes
    retain: bool = False

    def __len__(self) -> int:
        return len(self.topic) + len(self.payload)


class MqttOutput(Output):
    """Publishes records and events as JSON. Neither opening nor writing ever waits for the broker.

    | topic | payload | retained |
    |---|---|---|
    | `PREFIX/CAMERA/detections` | the record (schema 1), one per frame | no |
    | `PREFIX/CAMERA/status` | the camera's newest event | yes |
    | `PREFIX/events` | all other events | no |
    | `PREFIX/status` | `online` or `offline`, the latter also by the broker itself (last will) | yes |

    A separate thread keeps the connection and reconnects with growing pauses, without limit. While the broker is
    away, messages with `qos=0` are dropped; with `qos=1` the newest 4 MB are queued and sent later, in order (some
    twice, where the connection broke before the acknowledgement). Statuses are published again after each
    connection.

    Args:
        url: `mqtt://USER:PASSWORD@HOST:PORT/PREFIX?qos=1&client_id=NAME`; all but the host may be left
            out. `mqtts://` with TLS; `?ca=FILE` names the authority's certificate where the system does
            not know it.
        listener: receives an event when the broker is connected, lost, refuses the connection, or is back.

    Attributes:
        sent: messages that the broker acknowledged (`qos=1`) or that were sent (`qos=0`).

    Raises:
        OutputError: an invalid URL, no such certificate, or paho-mqtt is missing. A broker
            that is off is not an error but an event.

    """

    needs_image = False

    def __init__(self, url: str, listener: Listener = ignore_event) -> None:
        from detection.runtime.cameras.names import without_secrets  # loads the kinds of cameras

        parts = parse_address(url, tuple(PORTS), FORM)
        options = options_of(parts)
        self.sent = 0
        self._shown = without_secrets(url)
        self._qos = int(options.get("qos", "0"))
        self._prefix = prefix_of(parts)
        self._client = client_for(parts, options)
        self._client.will_set(f"{self._prefix}/status", b"offline", qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._refusal = ""
        self._link = Link("mqtt", listener)
        self._backlog: Backlog[_Message] = Backlog()
        self._in_flight: deque[tuple[_Message, MQTTMessageInfo]] = deque()
        self._statuses: dict[str, _Message] = {}
        self._away = False
        self._lock = threading.Lock()  # of `_away`, and of what it decides
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Messages that were not sent and will not be."""
        return self._backlog.dropped

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Queue one record; returns at once."""
        self._put(_Message(f"{self._prefix}/{topic_level(record['camera'])}/detections", _json(record)))

    def event(self, event: Event) -> None:
        """Queue an event; returns at once."""
        payload = _json(event.to_json())
        if event.kind != "camera":
            self._put(_Message(f"{self._prefix}/events", payload))
            return
        message = _Message(f"{self._prefix}/{topic_level(event.subject)}/status", payload, retain=True)
        with self._lock:
            self._statuses[message.topic] = message  # only the newest is published after a reconnect
            if not self._away:
                self._backlog.put(message)

    def _put(self, message: _Message) -> None:
        with self._lock:
            if self._away and self._qos == 0:
                self._backlog.lose(1)
            else:
                self._backlog.put(message)

    def close(self) -> None:
        """Send what can be sent within half a second, publish `offline` and disconnect; safe to call twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._backlog.wake()
        self._thread.join(_CLOSE_S)  # a thread that waits for a host ends with its timeout
        self._backlog.lose(len(self._in_flight))
        self._backlog.clear()
        if self.dropped:
            _log.warning("mqtt: %s did not get %d messages", self._shown, self.dropped)

    # --- all below runs in the thread ---

    # paho's own loop_start() is not used: while a connection is made, what it resends and what is
    # published meanwhile overtake each other, its queue for QoS 0 has no bound, and loop_stop() waits
    # for a broker that does not answer. Here paho holds 20 messages at most and one thread calls it.

    def _run(self) -> None:
        while True:  # at least once, for what was written before a quick end
            self._refusal = ""
            try:
                reason = self._session()
            except Exception as error:  # after any error the next connection may work
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if self._closing.is_set():
                return
            self._lose(reason)
            if self._closing.wait(self._link.pause_s()):
                return

    def _session(self) -> str:
        """One connection from beginning to end; returns the reason of its end.

        Raises:
            OSError: it could not be made.

        """
        self._client.reconnect()
        announced = False
        until = float("inf")
        progress_s = began_s = time.monotonic()
        wait_s = _POLL_S
        while (code := self._client.loop(wait_s)) == 0:
            if self._closing.is_set():
                until = min(until, time.monotonic() + _FLUSH_S)
                if time.monotonic() >= until or (announced and not self._backlog and not self._in_flight):
                    self._leave()
                    return ""
            if not self._client.is_connected():  # TCP is connected, CONNACK has not come yet
                if time.monotonic() - began_s > _ACKNOWLEDGED_WITHIN_S:
                    return f"it takes the connection and says nothing for {_ACKNOWLEDGED_WITHIN_S:.0f} s"
                continue
            if not announced:
                announced = True
                self._announce()
            while self._in_flight and self._in_flight[0][1].is_published():
                self._in_flight.popleft()
                self.sent += 1
                progress_s = time.monotonic()
            if not self._in_flight:
                progress_s = time.monotonic()
            elif time.monotonic() - progress_s > _ACKNOWLEDGED_WITHIN_S:
                return f"it has acknowledged nothing for {_ACKNOWLEDGED_WITHIN_S:.0f} s"
            wait_s = _POLL_S  # for acknowledgements, or:
            if len(self._in_flight) < _MAX_IN_FLIGHT:
                wait_s = 0.0
                message = self._backlog.take(_POLL_S)
                if message is not None:
                    info = self._client.publish(message.topic, message.payload, self._qos, message.retain)
                    self._in_flight.append((message, info))
        return self._refusal or _reason(code)

    def _announce(self) -> None:
        """Publish `online` and the cameras' statuses on a new connection."""
        if not self._closing.is_set():
            gap = f"; {self.dropped} messages were dropped" if self.dropped else ""
            self._link.up(f"{self._shown} is there{gap}")
        self._client.publish(f"{self._prefix}/status", b"online", 1, retain=True)
        with self._lock:
            if self._away:  # it may have lost them; after what is queued, so that the newest stays
                for message in self._statuses.values():
                    self._backlog.put(message)
            self._away = False

    def _leave(self) -> None:
        self._client.publish(f"{self._prefix}/status", b"offline", 1, retain=True)
        self._client.disconnect()
        until = time.monotonic() + _CLOSE_S - _FLUSH_S
        while time.monotonic() < until and self._client.loop(_POLL_S) == 0:
            pass

    def _lose(self, reason: str) -> None:
        unsure = [message for message, info in self._in_flight]
        self._in_flight.clear()
        self._client.drop_out_messages()  # the same messages; they are sent again from here
        with self._lock:
            self._away = True
            if self._qos == 0:
                self._backlog.lose(len(unsure))
                self._backlog.clear()
            else:
                self._backlog.put_back(unsure)
        if self._refusal:
            self._link.down(
                "refused", f"{self._shown} refuses the connection: {reason}; are user and password right?"
            )
        else:
            self._link.down("lost", f"{self._shown} is away: {reason}; trying again")

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any) -> None:
        if reason_code.is_failure:
            self._refusal = str(reason_code)


def topic_level(camera: str) -> str:
    """A camera's name as one level of a topic: `/ + #` and control characters become `_`."""
    return re.sub(r"[/+#\x00-\x1f\x7f]", "_", camera) or "_"


def _json(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _reason(code: int) -> str:
    from paho.mqtt.client import error_string

    return error_string(code).rstrip(".").lower()


def _open(url: str, context: OutputContext) -> list[Output]:
    return [MqttOutput(url, context.listener)]


KIND = OutputKind(
    key="mqtt",
    about="records and events to an MQTT broker",
    settings=str,
    opens=_open,
    flags=(Flag("URL", "Publish to mqtt:// or mqtts://USER:PASSWORD@HOST:PORT/PREFIX?qos=1."),),
    panel=NETWORK,
    example="mqtt://swath:${SWATH_MQTT_PASSWORD}@10.0.0.2:1883/sprayer-7",
    queued=False,
    secret=True,
    needs=Package("paho.mqtt"),
)
