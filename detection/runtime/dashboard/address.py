"""`Address`: where the dashboard listens, and its socket."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from detection.runtime.errors import OutputError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """What `--dashboard` takes.

    Attributes:
        host: name or number, an IPv6 one without brackets.
        port: 0 to 65535; 0 lets the system choose a free one.

    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str | int) -> Address:
        """Read "8000" (this machine only), "0.0.0.0:8000" (every network), "[::1]:8000" or "robot.local:8000".

        Raises:
            OutputError: it is none of these.

        """
        found = re.fullmatch(r"(?:(?P<host>[^\s:\[\]/@]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>\d{1,5})", str(text).strip())
        if found is None or int(found["port"]) > 65535:
            raise OutputError(f"--dashboard {text}: must be PORT or HOST:PORT, such as 8000 or 0.0.0.0:8000")
        return cls((found["host"] or LOOPBACK).strip("[]"), int(found["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """A socket that listens there.

        Raises:
            OutputError: the port is taken, or the address is not this machine's.

        """
        try:
            # The first answer alone: a name with several addresses would need several sockets.
            family, _, _, _, where = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            raise OutputError(f"dashboard: {self.host} is no address of this machine") from None
        try:
            # A port is free again as soon as the last stream ended.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen(64)
        except OSError as error:
            listening.close()
            raise OutputError(f"dashboard: {_why(error, self)}") from None
        return listening


def is_loopback(listening: socket.socket) -> bool:
    """Whether only programs of this machine reach the socket."""
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


def names_this_machine(host_header: str) -> bool:
    """Whether a request was addressed to this machine by its own name or number.

    A web page elsewhere can reach what listens on loopback by a name of its own that leads here (DNS rebinding); the
    browser then sends that name.
    """
    try:
        host = urlsplit(f"//{host_header}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reachable_at(listening: socket.socket) -> Address:
    """The address for a browser; for "every network" that is this machine's own address in the default network."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = _own_address() or socket.gethostname()
    return Address(host, port)


def _own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            # Connecting a datagram socket sends nothing: the system only chooses the route.
            # 192.0.2.1 is reserved for examples (RFC 5737).
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(asking.getsockname()[0])


def _why(error: OSError, address: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {address.port} is in use at {address.host}; choose another, or stop the program that uses it"
    if error.errno == errno.EACCES:
        return f"port {address.port} needs more rights; choose one from 1024 on"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address.host} is no address of this machine"
    return f"cannot listen at {address} ({error.strerror})"
