"""criu: found, asked for its version, and its answers read."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import HostError
from knarr.host.criu import DUMP, Channel, Notice, Response, call, complaints, find
from knarr.host.protobuf import decode, encode


def program(folder: Path, version: str, serving: str = "") -> str:
    path = folder / "criu"
    path.write_text(f"#!/bin/sh\n[ \"$1\" = swrk ] || {{ echo '{version}'; exit; }}\n{serving}\n")
    path.chmod(0o755)
    return str(path)


def test_a_version(tmp_path: Path) -> None:
    found = find(program(tmp_path, "Version: 4.2.1\nGitID: v4.2"))
    assert (found.version, found.name) == ((4, 2), "criu 4.2")
    assert find(program(tmp_path, "Version: 3.19-dev")).version == (3, 19)


@pytest.mark.parametrize(
    ("version", "said"),
    [("Version: 3.10", "too old"), ("criu", "does not say"), ("Version: x.y", "does not say")],
)
def test_no_version(tmp_path: Path, version: str, said: str) -> None:
    with pytest.raises(HostError, match=said):
        find(program(tmp_path, version))


def test_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="--criu: /nowhere/criu is not a program"):
        find("/nowhere/criu")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="not installed"):
        find("no-such-criu")


def test_an_answer() -> None:
    response = Response(decode(encode([(1, 2), (2, True), (4, [(1, 77)]), (8, [(1, True), (2, False)])])))
    assert response.succeeded and response.pid == 77
    assert response.has(1) and not response.has(2) and not response.has(1, 3)
    failed = Response(decode(encode([(1, 1), (2, False), (7, 13)])))
    assert not failed.succeeded and failed.reason == "permission denied"
    said = Response(decode(encode([(9, "Error (criu/util.c:1): rlimit: Cannot set it\\n")])))
    assert said.reason == "rlimit: Cannot set it"


def test_a_program_that_ends_without_an_answer(tmp_path: Path) -> None:
    criu = find(program(tmp_path, "Version: 4.0", "exit 1"))
    assert not call(criu, DUMP, []).succeeded


def test_what_is_asked_back() -> None:
    """criu's side is played by a thread's worth of messages that are sent before they are read."""
    channel = Channel()
    import socket

    criu = socket.socket(fileno=channel.theirs)
    channel.theirs = criu.fileno()
    other = criu.dup()
    other.send(encode([(1, 6), (2, True), (5, [(1, "setup-namespaces"), (2, 9)])]))
    other.send(encode([(1, 1), (2, True)]))
    criu.detach()
    notices: list[Notice] = []
    assert channel.request(DUMP, [(2, [(2, 5)])], notices.append).succeeded
    assert notices == [Notice("setup-namespaces", 9)]
    assert decode(other.recv(100)) == {1: [DUMP], 2: [encode([(2, 5)])]}
    assert decode(other.recv(100)) == {1: [6], 3: [1]}
    other.close()
    channel.close()


def test_complaints(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    lines = ["(00.1) all well", "(00.2) Error (criu/a.c:1): one", "(00.3)  1: Error (criu/b.c:2): two", "x"]
    log.write_text("\n".join(lines))
    assert complaints(str(log)) == "one; two"
    assert complaints(str(tmp_path / "none")) == ""
