"""User-mode networking: the same container, carried by slirp4netns or pasta."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, SOCK_STREAM

import pytest

from contract.network.box import Box, call, listen, reaches
from contract.network.conftest import OUTSIDE, Attach
from knarr.errors import Conflict, HostError, UsageError
from knarr.host.paths import Paths
from knarr.network import attach, mend, rootless
from knarr.network.ports import parse_ports
from knarr.plan.facts import HostFacts

pytestmark = pytest.mark.requires("root", "ip", "tun")

TOOLS = [
    pytest.param("slirp4netns", marks=pytest.mark.requires("slirp4netns")),
    pytest.param("pasta", marks=pytest.mark.requires("pasta")),
]


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest, outside: Box) -> str:
    """With a way out: pasta takes the interface it goes by."""
    import subprocess

    subprocess.run(f"ip route add default via {OUTSIDE}.2".split(), check=True)
    return str(request.param)


def carriers(tool: str) -> list[int]:
    """Our children that are that program, or keep it, and have not ended."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(os.path.basename(word) == tool.encode() for word in words[:5]) and _is_below(int(entry)):
                found.append(int(entry))
    return found


def _is_below(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def wait_until_gone(tool: str) -> None:
    deadline = time.monotonic() + 10
    while carriers(tool) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert carriers(tool) == []


def test_goes_out_and_is_published(attached: Attach, outside: Box, tool: str) -> None:
    box = attached("8080:80", "127.0.0.1:8081:80", "5353:53/udp", mode=tool, kinds="user,net")
    with (
        listen(box.socket(AF_INET, SOCK_STREAM), 80) as tcp,
        listen(box.socket(AF_INET, SOCK_DGRAM), 53) as udp,
        listen(outside.socket(AF_INET, SOCK_STREAM), 7000) as there,
    ):
        call(socket.socket(AF_INET, SOCK_STREAM), tcp, ("127.0.0.1", 8080))
        call(socket.socket(AF_INET, SOCK_STREAM), tcp, ("127.0.0.1", 8081))
        call(outside.socket(AF_INET, SOCK_STREAM), tcp, (f"{OUTSIDE}.1", 8080))
        call(outside.socket(AF_INET, SOCK_DGRAM), udp, (f"{OUTSIDE}.1", 5353))
        assert call(box.socket(AF_INET, SOCK_STREAM), there, (f"{OUTSIDE}.2", 7000)) == f"{OUTSIDE}.1"
        assert not reaches(outside.socket(AF_INET, SOCK_STREAM), (f"{OUTSIDE}.1", 8081))
    assert f"inet {box.attachment.ip}/24" in box.ip("address show dev eth0")
    assert "default via 10.0.2.2" in box.ip("route")
    assert box.attachment.resolv_conf == "nameserver 10.0.2.3\n"


def test_the_hosts_loopback_is_out_of_reach(attached: Attach, tool: str) -> None:
    box = attached(mode=tool, kinds="user,net")
    with listen(socket.socket(AF_INET, SOCK_STREAM), 9001):
        assert not reaches(box.socket(AF_INET, SOCK_STREAM), ("10.0.2.2", 9001))


def test_it_ends_with_what_the_monitor_holds(attached: Attach, paths: Paths, tool: str) -> None:
    box = attached("8080:80", mode=tool, kinds="user,net")
    assert carriers(tool)
    box.end()
    assert carriers(tool), "the container's end alone is not what ends it"
    for fd in box.attachment.hold_fds:
        os.close(fd)
    wait_until_gone(tool)
    attached("8080:80", mode=tool, kinds="user,net")


def test_a_port_is_had_once(attached: Attach, tool: str) -> None:
    attached("8080:80", mode=tool, kinds="user,net")
    with pytest.raises(Conflict, match="port is already allocated"):
        attached("8080:80", mode=tool, kinds="user,net")


def test_a_mac_of_ones_own(attached: Attach, tool: str) -> None:
    box = attached(mode=tool, kinds="user,net", mac="02:00:00:00:00:07")
    assert "02:00:00:00:00:07" in box.ip("link show dev eth0")


def test_no_such_process(paths: Paths, facts: HostFacts, tool: str) -> None:
    prepared = attach.prepare(paths, facts, "a" * 64, tool, parse_ports(["8080:80"]))
    assert prepared.user is not None
    with pytest.raises(HostError, match=f"network: {tool}: "):
        rootless.start(prepared.user, 2**22 - 1)
    attach.release(prepared)
    wait_until_gone(tool)


def test_only_tcp_and_udp(paths: Paths, facts: HostFacts, tool: str) -> None:
    with pytest.raises(UsageError, match="only tcp and udp"):
        attach.prepare(paths, facts, "a" * 64, tool, parse_ports(["80:80/sctp"]))


@pytest.mark.requires("slirp4netns")
def test_its_socket_does_not_stay(attached: Attach, paths: Paths, outside: Box) -> None:
    attached("8080:80", mode="slirp4netns", kinds="user,net")
    folder = Path(paths.run, "networks/.slirp")
    assert list(folder.iterdir()) == []
    (folder / ("c" * 64)).touch()
    mend.mend(paths, lambda owner: False)
    assert list(folder.iterdir()) == []


@pytest.mark.requires("slirp4netns")
def test_a_signal_to_the_foreground_is_not_its(attached: Attach, outside: Box) -> None:
    """Ctrl-C goes to the whole process group of the terminal; the container decides what it means."""
    attached(mode="slirp4netns", kinds="user,net")
    (carrier,) = carriers("slirp4netns")
    assert os.getpgid(carrier) != os.getpgid(0)
    assert os.getsid(carrier) == carrier


@pytest.fixture(autouse=True)
def reaped() -> object:
    """Programs end a little after what held them; wait for them here, where they are children."""
    yield
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            time.sleep(0.02)
    for tool in ("slirp4netns", "pasta"):
        for pid in carriers(tool):
            os.kill(pid, signal.SIGKILL)
