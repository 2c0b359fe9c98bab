"""An agent gets the notify descriptor of a filter and the document that names the container."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from knarr.plan.step import Step
from native.plans import ALL, PATIENCE_S, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

# waitid wait4 sendmsg sendto close write uname prctl execve
NUMBERS = {
    "x86_64": {"wait4": 61, "sendmsg": 46, "sendto": 44, "close": 3, "write": 1, "uname": 63, "execve": 59},
    "aarch64": {"wait4": 260, "sendmsg": 211, "sendto": 206, "close": 57, "write": 64, "uname": 160, "execve": 221},
}[os.uname().machine]  # fmt: skip
RECEIVE, SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
CONTINUE = 1


def asking(*names: str) -> str:
    """The agent is asked about these calls, everything else is allowed."""
    tests = [struct.pack("=HBBI", 0x15, len(names) - i, 0, NUMBERS[name]) for i, name in enumerate(names)]
    allow, ask = (struct.pack("=HBBI", 0x06, 0, 0, value) for value in (0x7FFF0000, 0x7FC00000))
    return (struct.pack("=HBBI", 0x20, 0, 0, 0) + b"".join(tests) + allow + ask).hex()


class Agent:
    """Takes one descriptor, and lets every call that it is asked about go on."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen()
        self.socket.settimeout(PATIENCE_S)
        self.document = b""
        self.calls: set[int] = set()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            self.document, fds, _, _ = socket.recv_fds(connection, 1 << 20, 1)
            while more := connection.recv(1 << 20):  # the connection ends behind the document
                self.document += more
        if not fds:
            return
        answering = threading.Thread(target=self._answer, args=(fds[0],), daemon=True)
        answering.start()

    def _answer(self, fd: int) -> None:
        request = ctypes.create_string_buffer(80)
        while True:
            ctypes.memset(request, 0, 80)
            try:
                fcntl.ioctl(fd, RECEIVE, request)
                identity, _, _, number = struct.unpack_from("=QIIi", request.raw)
                self.calls.add(number)
                fcntl.ioctl(fd, SEND, struct.pack("=QqiI", identity, 0, 0, CONTINUE))
            except OSError:
                os.close(fd)  # nobody is held by the filter any more
                return

    def end(self) -> None:
        self.thread.join(PATIENCE_S)
        self.socket.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    directory = tmp_path / ("long" * 40)  # longer than the address of a socket
    directory.mkdir()
    here = os.getcwd()
    os.chdir(directory)
    agent = Agent(Path("socket"))
    os.chdir(here)
    yield agent
    agent.end()


def listener(tmp_path: Path) -> Step:
    return step("seccomp-listener", tmp_path / ("long" * 40) / "socket")


def plan(
    rootfs: Rootfs, tmp_path: Path, filter_: str, *, before: Sequence[Step] = (), clone: str = ALL
) -> list[Step]:
    loads = step("seccomp", 0, filter_, '{"pid":', ',"state":{"pid":', "}}")
    return rootfs.plan(
        "uname", host=[listener(tmp_path)], process=[*before, loads, step("chdir", "/")], clone=clone
    )


@pytest.fixture(autouse=True)
def uname(rootfs: Rootfs) -> None:
    (rootfs.lower / "bin/uname").symlink_to("busybox")


@pytest.mark.parametrize("before", [[], [step("no-new-privs")]], ids=["privileged", "no-new-privs"])
@pytest.mark.parametrize("wait", [True, False])
def test_it_is_asked_about_everything_from_then_on(
    native: Native, rootfs: Rootfs, tmp_path: Path, agent: Agent, before: list[Step], wait: bool
) -> None:
    """Also about the very calls that hand over the descriptor. The pid is the one that the setter knows."""
    outcome = native.init(plan(rootfs, tmp_path, asking(*NUMBERS), before=before), wait=wait)
    agent.end()
    assert (outcome.code, outcome.words) == (0, []), outcome
    pid = outcome.reports[0].split()[1]
    assert agent.document.decode() == f'{{"pid":{pid},"state":{{"pid":{pid}}}}}'
    if wait:
        assert outcome.out == "Linux\n"
        assert {NUMBERS["execve"], NUMBERS["uname"]} <= agent.calls


def test_a_long_document_arrives_whole(native: Native, rootfs: Rootfs, tmp_path: Path, agent: Agent) -> None:
    steps = plan(rootfs, tmp_path, asking("uname"))
    steps = [s._replace(args=(*s.args[:2], "x" * 500_000, "y")) if s.op == "seccomp" else s for s in steps]
    outcome = native.init(steps)
    agent.end()
    assert (outcome.code, len(agent.document)) == (0, 500_001 + len(outcome.reports[0].split()[1]))


def test_no_zombie_is_left_to_the_workload(
    native: Native, rootfs: Rootfs, tmp_path: Path, agent: Agent
) -> None:
    steps = plan(rootfs, tmp_path, asking("uname"), before=[step("no-new-privs")])
    steps[-1] = step("exec", "sh", "-c", "echo /proc/[0-9]*")
    assert native.init(steps).out == "/proc/1\n"  # the shell


def test_nobody_listens(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / ("long" * 40)).mkdir()
    outcome = native.init(plan(rootfs, tmp_path, asking("uname")))
    assert (outcome.code, outcome.words) == (125, ["fail 0 2 "])
    (tmp_path / ("long" * 40) / "socket").touch()
    assert native.init(plan(rootfs, tmp_path, asking("uname"))).words == ["fail 0 111 "]


def test_an_agent_that_hangs_up_is_an_error(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / ("long" * 40)).mkdir()
    here = os.getcwd()
    os.chdir(tmp_path / ("long" * 40))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind("socket")
        os.chdir(here)
        deaf.listen()
        steps = plan(rootfs, tmp_path, asking("uname"))
        at = next(i for i, s in enumerate(steps) if s.op == "seccomp")
        steps.insert(at, step("pause", "agent"))
        started = native.start(steps)
        while not (report := started.report()).startswith("pause"):
            assert report.startswith("pid ")
        deaf.accept()[0].close()
        started.status.send(b"go")
        assert started.report() == f"fail {at + 1} 32 listener"


def test_a_filter_that_is_none(native: Native, rootfs: Rootfs, tmp_path: Path, agent: Agent) -> None:
    steps = plan(rootfs, tmp_path, "ffff" * 4)
    at = next(i for i, s in enumerate(steps) if s.op == "seccomp")
    assert native.init(steps).words == [f"fail {at} 22 "]
    without = [s for s in plan(rootfs, tmp_path, asking("uname")) if s.op != "seccomp-listener"]
    assert native.init(without).words[0].endswith("9 the plan has no listener")
