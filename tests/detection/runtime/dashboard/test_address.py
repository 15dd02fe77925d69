from __future__ import annotations

import socket

import pytest

from detection.runtime.dashboard.address import Address, is_loopback, reachable_at
from detection.runtime.errors import OutputError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        (8000, "127.0.0.1", 8000),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:8000", "::1", 8000),
        ("robot.local:8000", "robot.local", 8000),
        ("localhost:0", "localhost", 0),
    ],
)
def test_ports_and_addresses_are_read(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["", "x", ":8000", "::1:8000", "host:", "65536", "1.2.3.4", "http://a:80", "-1", "a b:1"]
)
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(OutputError, match="must be PORT or HOST:PORT, such as 8000"):
        Address.parse(text)


def test_who_reaches_it():
    for host, alone in (("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)):
        with Address(host, 0).listen() as listening:
            assert is_loopback(listening) is alone
            shown = reachable_at(listening)
            assert shown.port == listening.getsockname()[1] != 0
            assert shown.host not in ("0.0.0.0", "")


def test_a_taken_port_is_said():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port} is in use at 127.0.0.1; choose another"):
            Address("127.0.0.1", port).listen()


def test_an_address_of_another_machine_is_said():
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(OutputError, match=f"{host} is no address of this machine"):
            Address(host, 0).listen()
