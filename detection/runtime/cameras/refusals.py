"""Why a camera on the network gives no video: asked by us, because FFmpeg does not report the reason."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPException

from detection.runtime.addresses import split_address
from detection.runtime.cameras.authorization import authorize
from detection.runtime.cameras.web import get
from detection.runtime.deadline import Deadline

_ANSWER = re.compile(rb"RTSP/[\d.]+ (\d{3})")
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_MEANINGS = {
    401: "it refuses user or password (401)",
    403: "it forbids this user the stream (403)",
    404: "it knows no stream of this path (404)",
    503: "it serves no more viewers (503)",
}
_OF_FFMPEG = ("Basic", "Digest MD5")


@dataclass(frozen=True)
class Refusal:
    """What a camera answered.

    Attributes:
        reason: in words; holds no password.
        credentials: whether user or password are at fault, so that asking often may lock the account.
        silent: whether it did not answer at all.

    """

    reason: str
    credentials: bool = False
    silent: bool = False


def refusal_of_status(status: int) -> Refusal | None:
    """What a status of HTTP or RTSP means; None where all is well."""
    if status < 400:
        return None
    return Refusal(_MEANINGS.get(status, f"it answers {status}"), credentials=status in (401, 403))


def refusal_of_kinds(kinds: tuple[str, ...]) -> Refusal:
    """Of a camera that takes a password in ways only that are not known."""
    return Refusal(
        f"it takes passwords by {' or '.join(kinds) or 'no known way'} only, which cannot be given; set its "
        "authentication to digest (MD5) or basic",
        credentials=True,
    )


def refusal_of_error(error: Exception, within_s: float, deadline: Deadline | None = None) -> Refusal:
    """Why there was no exchange."""
    if isinstance(error, TimeoutError) or (deadline is not None and deadline.passed):
        return Refusal(f"no answer within {within_s:g} s", silent=True)
    if isinstance(error, ConnectionRefusedError):
        return Refusal("nothing listens there")
    if isinstance(error, socket.gaierror):
        return Refusal("its name is not known in this network")
    if isinstance(error, OSError):
        return Refusal(f"the network says: {error.strerror or error}")
    if isinstance(error, HTTPException):
        return Refusal("it does not speak HTTP")
    return Refusal("its address cannot be read")


def unreachable(url: str, within_s: float) -> Refusal | None:
    """Ask whether an RTSP camera answers at all; None where it does, whatever it says.

    Args:
        url: with or without user and password.
        within_s: for the whole exchange.

    """
    with Deadline(within_s) as deadline:
        try:
            with _connected(url, deadline) as connection:
                _ask(connection, "OPTIONS", _target(url), None, deadline)
        except (OSError, ValueError) as error:
            return refusal_of_error(error, within_s, deadline)
    return None


def why_refused(url: str, within_s: float) -> Refusal | None:
    """Ask an RTSP or HTTP camera for its stream, and read the head of its answer.

    Args:
        url: with user and password, where there are any.
        within_s: for each exchange.

    Returns:
        None where it answered that all is well, or speaks another protocol.

    """
    parts = split_address(url)
    if parts.scheme not in _PORTS:
        return None
    with Deadline(within_s) as deadline:
        try:
            if parts.scheme.startswith("http"):
                answer = get(url, deadline)
                answer.close()
                return refusal_of_kinds(answer.kinds) if answer.unknown_kinds else refusal_of_status(answer.status)
            return _describe(url, deadline)
        except (OSError, ValueError, HTTPException) as error:
            return refusal_of_error(error, within_s, deadline)


def _describe(url: str, deadline: Deadline) -> Refusal | None:
    parts, target = split_address(url), _target(url)
    with _connected(url, deadline) as connection:
        answer = _ask(connection, "DESCRIBE", target, None, deadline)
    if answer.startswith(b"401") and parts.user is not None:
        challenges = re.findall(r"(?im)^WWW-Authenticate:\s*(.*?)\s*$", answer.decode("latin-1"))
        given = authorize(challenges, "DESCRIBE", target, parts.user, parts.password or "")
        if given.kinds and not set(given.kinds) & set(_OF_FFMPEG):
            return refusal_of_kinds(given.kinds)
        deadline.hang_up()
        with _connected(url, deadline) as connection:
            answer = _ask(connection, "DESCRIBE", target, given.header, deadline)
    return refusal_of_status(int(answer[:3]) if answer[:3].isdigit() else 0)


def _target(url: str) -> str:
    parts = split_address(url)
    return f"{parts.scheme}://{parts.host}{parts.target}"


def _connected(url: str, deadline: Deadline) -> socket.socket:
    parts = split_address(url)
    found = re.fullmatch(r"(\[[^\]]+\]|[^:]+)(?::(\d+))?", parts.host)
    if found is None or not 0 < int(found[2] or 1) < 65536:
        raise ValueError(parts.host)
    connection = deadline.connect((found[1].strip("[]"), int(found[2] or _PORTS[parts.scheme])))
    connection.settimeout(None)  # the deadline ends it
    if parts.scheme != "rtsps":
        return connection
    return ssl._create_unverified_context().wrap_socket(connection)  # cameras sign their own certificates


def _ask(connection: socket.socket, method: str, target: str, authorization: str | None, deadline: Deadline) -> bytes:
    """The answer from its status on, "401 Unauthorized", with the headers; empty where it is none."""
    lines = [f"{method} {target} RTSP/1.0", "CSeq: 1", "User-Agent: swath"]
    lines += ["Accept: application/sdp"] if method == "DESCRIBE" else []
    lines += [f"Authorization: {authorization}"] if authorization else []
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < 16384:
        more = connection.recv(4096)
        if not more:
            deadline.check()
            break
        answer += more
    found = _ANSWER.match(answer)
    return answer[found.start(1) :] if found else b""
