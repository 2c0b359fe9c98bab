"""The monitor's relay: what comes from the host's loopback to a reserved port is carried on, both ways, to its end."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from native.plans import Native, Rootfs, Running

pytestmark = pytest.mark.requires("root", "overlay", "busybox", "ipv6")

PATIENCE_S = 20


class Relay:
    """A container that waits, `[::1]:port` relayed to `server`, which is 127.0.0.1 with another port."""

    def __init__(self, native: Native, rootfs: Rootfs) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE_S)
        reserved = socket.socket(socket.AF_INET6)
        reserved.bind(("::1", 0))
        self.port = reserved.getsockname()[1]
        spare = os.open("/dev/null", os.O_RDONLY)
        words = (
            f"hold={spare},{reserved.fileno()}:{self.server.getsockname()[1]}",
            "relay=127.0.0.1",
            "stdin=2",
        )
        fds = [spare, reserved.fileno()]
        self.running: Running = native.monitor(rootfs.plan("cat"), *words, fds=fds).started()
        os.close(spare)
        reserved.close()

    def connected(self) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection(("::1", self.port), PATIENCE_S)
        far, _ = self.server.accept()
        far.settimeout(PATIENCE_S)
        return client, far


@pytest.fixture
def relay(native: Native, rootfs: Rootfs) -> Iterator[Relay]:
    made = Relay(native, rootfs)
    yield made
    made.server.close()


def until_end(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(1 << 16):
        data += part
    return data


def test_each_way_ends_by_itself(relay: Relay) -> None:
    client, far = relay.connected()
    with client, far:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert until_end(far) == b"question"
        far.sendall(b"answer")
        far.shutdown(socket.SHUT_WR)
        assert until_end(client) == b"answer"


def test_much_at_once_in_both_directions(relay: Relay) -> None:
    data = os.urandom(1 << 20) * 3
    client, far = relay.connected()
    with client, far:
        for end in (client, far):
            threading.Thread(target=lambda end=end: (end.sendall(data), end.shutdown(socket.SHUT_WR))).start()
        assert until_end(client) == data
        assert until_end(far) == data


def test_a_reset_is_passed_on(relay: Relay) -> None:
    client, far = relay.connected()
    with client:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_where_nobody_listens_a_client_is_reset(relay: Relay) -> None:
    relay.server.close()

    def ask() -> None:
        with socket.create_connection(("::1", relay.port), PATIENCE_S) as client:
            client.recv(1)

    with pytest.raises(ConnectionResetError):
        ask()


def test_it_goes_with_the_container(relay: Relay) -> None:
    client, far = relay.connected()
    with client, far:
        relay.running.primary.send(b"c")
        assert relay.running.wait() == 0
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
        with socket.socket(socket.AF_INET6) as late, pytest.raises(ConnectionRefusedError):
            late.connect(("::1", relay.port))


WRONG = ("hold=x", "hold=1", "hold=9999", "hold=3:99999", "hold=3;4", "hold=3,", "relay=x")


@pytest.mark.parametrize("word", WRONG)
def test_wrong_words_are_refused(native: Native, rootfs: Rootfs, word: str) -> None:
    assert native.monitor(rootfs.plan("true"), word).wait() == 125
