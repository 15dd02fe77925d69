"""An MQTT client from the address that a user typed: `mqtt://USER:PASSWORD@HOST:PORT/PREFIX?qos=1`."""

from __future__ import annotations

import re
import secrets
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl

from detection.runtime.errors import OutputError
from detection.runtime.outputs.link import unquote_of

if TYPE_CHECKING:
    from paho.mqtt.client import Client

FORM = "MQTT address mqtt://USER:PASSWORD@HOST:PORT/PREFIX?qos=1"
PORTS = {"mqtt": 1883, "mqtts": 8883}
_OPTIONS = ("qos", "client_id", "ca")
_CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 10
"""A connection that is silent without being closed is given up after at most twice this time."""
DEFAULT_PREFIX = "swath"
"""Of all topics, where the URL names none."""


def options_of(parts: SplitResult) -> dict[str, str]:
    """The query of the address: `qos`, `client_id`, `ca`.

    Raises:
        OutputError: an unknown option, or a value that is not valid.

    """
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in options:
        if key not in _OPTIONS:
            raise OutputError(f"{FORM}: unknown option {key!r}; there are {', '.join(_OPTIONS)}")
    if options.get("qos", "0") not in ("0", "1"):
        raise OutputError(f"{FORM}: qos is 0 or 1")
    if "client_id" in options and not options["client_id"]:
        raise OutputError(f"{FORM}: client_id is empty")
    if "ca" in options and parts.scheme != "mqtts":
        raise OutputError(f"{FORM}: ca goes with mqtts://")
    return options


def prefix_of(parts: SplitResult) -> str:
    """The prefix of all topics: the path of the address, or `DEFAULT_PREFIX`.

    Raises:
        OutputError: no topic can begin with it.

    """
    prefix = unquote_of(parts.path.strip("/")) or DEFAULT_PREFIX
    if re.search(r"[+#\x00-\x1f\x7f]|//", prefix) or len(prefix) > 1000:
        raise OutputError(f"{FORM}: not a valid PREFIX of topics")
    return prefix


def client_for(parts: SplitResult, options: dict[str, str]) -> Client:
    """A client for the address, not connected yet.

    Raises:
        OutputError: paho-mqtt is missing, or the certificate cannot be read.

    """
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise OutputError('MQTT needs paho-mqtt: pip install "swath[stream]"') from None
    # Two clients of one name disconnect each other without end, so the default name is unique.
    name = options.get("client_id") or f"swath-{socket.gethostname()[:40]}-{secrets.token_hex(3)}"
    client = Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.connect_timeout = _CONNECT_TIMEOUT_S
    client.max_inflight_messages_set(0)  # the bound is ours
    user = unquote_of(parts.username)
    if user is not None:
        client.username_pw_set(user, unquote_of(parts.password))
    if parts.scheme == "mqtts":
        try:
            client.tls_set(options.get("ca"))
        except (OSError, ssl.SSLError):
            raise OutputError(f"MQTT: {options.get('ca')}: not a certificate that can be read") from None
    assert parts.hostname is not None  # parse_address
    client.connect_async(parts.hostname, parts.port or PORTS[parts.scheme], KEEPALIVE_S)
    return client
