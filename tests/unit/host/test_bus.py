"""How a connection to systemd's manager begins, against a server that speaks the few lines of it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from knarr.host.bus import Bus, BusError


def serve(path: Path, answer: bytes) -> tuple[threading.Thread, list[bytes]]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    heard: list[bytes] = []

    def run() -> None:
        connection, _ = listener.accept()
        heard.append(connection.recv(100))
        connection.sendall(answer)
        heard.append(connection.recv(100))
        connection.close()
        listener.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, heard


def test_we_say_who_we_are(tmp_path: Path) -> None:
    thread, heard = serve(tmp_path / "s", b"OK 0123\r\n")
    Bus(str(tmp_path / "s"), is_bus=False).close()
    thread.join()
    uid = str(os.geteuid()).encode().hex().encode()
    assert heard == [b"\0AUTH EXTERNAL " + uid + b"\r\n", b"BEGIN\r\n"]


def test_we_are_not_let_in(tmp_path: Path) -> None:
    thread, _ = serve(tmp_path / "s", b"REJECTED EXTERNAL\r\n")
    with pytest.raises(BusError, match="does not let us in: REJECTED"):
        Bus(str(tmp_path / "s"), is_bus=False)
    thread.join()
