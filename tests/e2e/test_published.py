"""Published ports, from the host itself: by every name that it has for itself, and as many as are asked for."""

from __future__ import annotations

import socket
import time

import pytest

from harness.command import Knarr

pytestmark = pytest.mark.requires("root", "userns", "overlay", "nft", "ip", "slirp4netns", "ipv6")

# Answers each connection with what it was sent, once the client has said that this was all.
ECHO = ("nc", "-ll", "-p", "80", "-e", "cat")


def port_of(cli: Knarr, container: str) -> int:
    return int(cli.ok("port", container, "80").splitlines()[0].rpartition(":")[2])


def echoed(address: str, port: int, data: bytes) -> bytes:
    """The answer; b"" while nobody listens."""
    deadline = time.monotonic() + 15
    while True:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
            client.settimeout(15)
            try:
                client.connect((address, port))
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while part := client.recv(1 << 16):
                    answer += part
                return answer
            except (ConnectionRefusedError, ConnectionResetError):
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.05)


def test_localhost_by_both_families(cli: Knarr, image: str) -> None:
    container = cli.ok("run", "-d", "-p", "80", image, *ECHO)
    port = port_of(cli, container)
    data = bytes(range(256)) * 4000
    for address in ("127.0.0.1", "::1"):
        assert echoed(address, port, data) == data
    cli.ok("restart", "-t", "0", container)
    assert echoed("::1", port_of(cli, container), b"again") == b"again"
    cli.ok("rm", "-f", container)
    with socket.socket(socket.AF_INET6) as client, pytest.raises(ConnectionRefusedError):
        client.connect(("::1", port))


def test_many_at_once_and_one_that_says_nothing(cli: Knarr, image: str) -> None:
    container = cli.ok("run", "-d", "-p", "80", image, *ECHO)
    port = port_of(cli, container)
    assert echoed("::1", port, b"x") == b"x"
    clients = [
        socket.create_connection(("::1", port), 15) for _ in range(100)
    ]  # more than are carried at a time
    for client in clients:
        client.close()
    assert echoed("::1", port, b"y") == b"y"
    # Who is connected does not keep the container, nor what it was given.
    with socket.create_connection(("::1", port), 15) as client:
        client.sendall(b"z")
        assert client.recv(1) == b"z"
        cli.ok("rm", "-f", container)
        client.settimeout(15)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_only_on_ipv6_loopback(knarr: Knarr, busybox: str) -> None:
    container = knarr.ok("run", "-d", "-p", "[::1]::80", busybox, *ECHO)
    port = port_of(knarr, container)
    assert echoed("::1", port, b"x") == b"x"
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))


def test_a_thousand_ports(knarr: Knarr, busybox: str) -> None:
    container = knarr.ok(
        "run", "-d", "-p", "20000-20999:20000-20999", busybox, "nc", "-ll", "-p", "20999", "-e", "cat"
    )
    for address in ("127.0.0.1", "::1"):
        assert echoed(address, 20999, b"x") == b"x"
    knarr.ok("rm", "-f", container)
