"""Why a camera on the network gives no video: queried again, because FFmpeg does not report the reason."""

from __future__ import annotations

import base64
import re
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

_ANSWER = re.compile(rb"(?:RTSP|HTTP)/[\d.]+ (\d{3})")
_PORTS = {"rtsp": 554, "http": 80}
_MEANINGS = {
    401: "it refuses user or password (401)",
    403: "it forbids this user the stream (403)",
    404: "it knows no stream of this path (404)",
    503: "it serves no more viewers (503)",
}


@dataclass(frozen=True)
class Refusal:
    """What a camera answered.

    Attributes:
        reason: in words; holds no password.
        credentials: whether user or password are at fault, so that asking often may lock the account.

    """

    reason: str
    credentials: bool = False


def why_refused(url: str, timeout_s: float) -> Refusal | None:
    """Ask an RTSP or HTTP camera for its stream and read its answer's first line.

    Args:
        url: with user and password, where there are any.
        timeout_s: for each step.

    Returns:
        None where it answered that all is well, or speaks another protocol.

    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _PORTS:
        return None
    # The last @ of all: passwords with / and ? in them are pasted as they are.
    credentials, _, place = rest.rpartition("@")
    try:
        parts = urllib.parse.urlsplit(f"{scheme}://{place}")
        address = (parts.hostname or "", parts.port or _PORTS[scheme])
    except ValueError:
        return Refusal("its address cannot be read")
    try:
        with socket.create_connection(address, timeout_s) as connection:
            connection.settimeout(timeout_s)
            target = f"{scheme}://{place}" if scheme == "rtsp" else urllib.parse.urlunsplit(("", "", *parts[2:4], ""))
            answer = _ask(connection, scheme, parts.netloc, target or "/", None)
            if answer.startswith(b"401") and credentials:
                user, _, password = credentials.partition(":")
                authorization = _authorization(
                    answer, scheme, target or "/", urllib.parse.unquote(user), urllib.parse.unquote(password)
                )
                with socket.create_connection(address, timeout_s) as again:
                    again.settimeout(timeout_s)
                    answer = _ask(again, scheme, parts.netloc, target or "/", authorization)
    except ConnectionRefusedError:
        return Refusal("nothing listens there")
    except socket.gaierror:
        return Refusal("its name is not known in this network")
    except TimeoutError:
        return Refusal(f"no answer within {timeout_s:g} s")
    except OSError as error:
        return Refusal(f"the network says: {error.strerror or error}")
    status = int(answer[:3]) if answer[:3].isdigit() else 0
    if status < 400:
        return None
    return Refusal(_MEANINGS.get(status, f"it answers {status}"), credentials=status in (401, 403))


def _ask(connection: socket.socket, scheme: str, host: str, target: str, authorization: str | None) -> bytes:
    """The answer from its status on, "401 Unauthorized", with the headers; empty where it is none."""
    if scheme == "rtsp":
        lines = [f"DESCRIBE {target} RTSP/1.0", "CSeq: 1", "Accept: application/sdp"]
    else:
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
    lines += [f"Authorization: {authorization}"] if authorization else []
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < 16384:
        more = connection.recv(4096)
        if not more:
            break
        answer += more
    found = _ANSWER.match(answer)
    return answer[found.start(1) :] if found else b""


def _authorization(answer: bytes, scheme: str, target: str, user: str, password: str) -> str | None:
    """The Authorization header that the answer's challenge asks for; Digest before Basic."""
    challenges = re.findall(r"(?im)^WWW-Authenticate:\s*(\w+)\s+(.*?)\s*$", answer.decode("latin-1"))
    by_kind = {kind.lower(): value for kind, value in challenges}
    if "digest" in by_kind:
        challenge = urllib.request.parse_keqv_list(urllib.request.parse_http_list(by_kind["digest"]))
        request = SimpleNamespace(
            get_method=lambda: "DESCRIBE" if scheme == "rtsp" else "GET", selector=target, full_url=target, data=None
        )
        digest: Any = urllib.request.AbstractDigestAuthHandler(urllib.request.HTTPPasswordMgrWithDefaultRealm())
        digest.passwd = SimpleNamespace(find_user_password=lambda realm, uri: (user, password))
        authorization = digest.get_authorization(request, challenge)
        return f"Digest {authorization}" if authorization else None
    if "basic" in by_kind:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return None
