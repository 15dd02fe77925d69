"""A GET as cameras need it: passwords by Basic and Digest, redirections, within a deadline."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from socket import socket
from urllib.parse import quote, urljoin

from detection.runtime.addresses import split_address
from detection.runtime.cameras.authorization import authorize
from detection.runtime.deadline import Deadline

_REDIRECTIONS = 5
_AS_WRITTEN = "%/:=&?~+!$,;'@()*[]|"


@dataclass(frozen=True)
class Answer:
    """The head of an answer; its body is read from `response`.

    Attributes:
        status: of HTTP.
        content_type: in lower case, without parameters; empty where it says none.
        boundary: of a multipart's parts, without dashes before it; empty where it says none.
        kinds: how it takes a password, where it asked for one.
        unknown_kinds: whether none of them can be given.
        response: the rest.
        connection: to be closed.
        socket: of the connection, which http.client forgets.

    """

    status: int
    content_type: str
    boundary: str
    kinds: tuple[str, ...]
    unknown_kinds: bool
    response: HTTPResponse = field(repr=False)
    connection: HTTPConnection = field(repr=False)
    socket: socket = field(repr=False)

    def limit_silence(self, silence_s: float) -> None:
        """How long a read may wait from now on."""
        self.socket.settimeout(silence_s)

    def close(self) -> None:
        """Close the connection."""
        self.response.close()
        self.connection.close()


def get(url: str, deadline: Deadline) -> Answer:
    """Ask for a URL.

    Args:
        url: http or https, with user and password, where there are any.
        deadline: its owner closes it, when all has come that is waited for.

    Raises:
        OSError: no connection; `TimeoutError`: no answer in time.
        HTTPException: what answers does not speak HTTP.
        ValueError: the address cannot be read.

    """
    first = split_address(url)
    challenges: list[str] = []
    for _ in range(_REDIRECTIONS + 1):
        parts = split_address(url)
        connection = _connection(parts.scheme, parts.host, deadline)
        try:
            answer = _asked(connection, parts.host, parts.target, None)
            known = parts.user is not None or parts.host == first.host  # no other host gets the password
            user, password = (parts.user, parts.password) if parts.user is not None else (first.user, first.password)
            if answer.status == 401 and user is not None and known:
                challenges = answer.response.headers.get_all("WWW-Authenticate") or []
                given = authorize(challenges, "GET", _path(parts.target), user, password or "")
                connection.close()
                deadline.hang_up()
                connection = _connection(parts.scheme, parts.host, deadline)
                answer = _asked(connection, parts.host, parts.target, given.header, given.kinds)
        except BaseException:
            connection.close()
            deadline.check()
            raise
        place = answer.response.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or not place:
            return answer
        answer.close()
        deadline.hang_up()
        url = urljoin(f"{parts.scheme}://{parts.host}{_path(parts.target)}", place)
        if split_address(url).scheme not in ("http", "https"):
            raise ValueError("it leads to another protocol")
    raise OSError(None, "it leads from one address to the next without end")


def _connection(scheme: str, host: str, deadline: Deadline) -> HTTPConnection:
    if re.fullmatch(r"(\[[^\]]+\]|[^:\[\]/]+)(:\d{1,5})?", host) is None:
        raise ValueError(host)
    made: HTTPConnection
    if scheme == "https":
        # cameras sign their own certificates
        made = HTTPSConnection(host, context=ssl._create_unverified_context())
    else:
        made = HTTPConnection(host)
    made._create_connection = deadline.connect  # type: ignore[attr-defined]
    made.connect()
    made.sock.settimeout(None)  # the deadline ends it
    return made


def _asked(
    connection: HTTPConnection, host: str, target: str, authorization: str | None, kinds: tuple[str, ...] = ()
) -> Answer:
    headers = {"User-Agent": "swath", "Accept": "*/*", "Connection": "close"}
    if authorization is not None:
        headers["Authorization"] = authorization
    connection.request("GET", _path(target), headers=headers)
    under = connection.sock
    response = connection.getresponse()
    kind = response.headers.get("Content-Type", "")
    boundary = re.search(r"(?i)boundary\s*=\s*\"?([^\";,\s]+)", kind)
    return Answer(
        response.status,
        kind.partition(";")[0].strip().lower(),
        boundary[1].lstrip("-") if boundary else "",
        kinds,
        bool(kinds) and authorization is None,
        response,
        connection,
        under,
    )


def _path(target: str) -> str:
    """What the first line of the request asks for."""
    path = quote(target.partition("#")[0], safe=_AS_WRITTEN)
    return path if path.startswith("/") else f"/{path}"
