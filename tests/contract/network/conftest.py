"""A network of the test's own in the test process's private namespace, and containers (namespaces) on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.network.box import Box
from harness.machine import Machine
from knarr.host import native
from knarr.host.facts import read_facts
from knarr.host.paths import Paths
from knarr.network import attach, make, rootless
from knarr.network.attachment import Attachment
from knarr.network.ports import parse_ports
from knarr.plan.facts import HostFacts

Attach = Callable[..., Box]
OUTSIDE = "198.51.100"


class Prepared:
    """What `prepare` gave; hands its descriptors over as the engine does to a monitor."""

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment

    def tear_down(self) -> None:
        for fd in self.attachment.hold_fds:
            os.close(fd)
        if self.attachment.teardown_steps:
            native.execute(self.attachment.teardown_steps)


@pytest.fixture
def facts() -> HostFacts:
    return read_facts()


@pytest.fixture
def paths(tmp_path: Path, machine: Machine) -> Iterator[Paths]:
    assert machine.private, "never on the machine's own network"
    made = Paths(str(tmp_path / "root"), str(tmp_path / "run"), ())
    yield made
    if os.path.isdir(f"{made.run}/networks"):
        make.remove(made)


@pytest.fixture
def attached(paths: Paths, facts: HostFacts) -> Iterator[Attach]:
    """`attached("8080:80", …, mode="bridge", …)`: a container on the network. All end with the test, torn down."""
    boxes: list[Box] = []
    count = 0

    def start(*ports: str, mode: str = "bridge", kinds: str = "net", **asked: Any) -> Box:
        nonlocal count
        count += 1
        asked.setdefault("hostname", f"box{count}")
        prepared = attach.prepare(paths, facts, f"{count:064x}", mode, parse_ports(ports), **asked)
        try:
            box = Box.start(prepared, kinds, lambda pid: _start_user_network(prepared, pid))
        except BaseException:
            attach.release(prepared)
            raise
        boxes.append(box)
        return box

    yield start
    for box in boxes:
        end(box)


def _start_user_network(prepared: Attachment, pid: int) -> None:
    if prepared.user is not None:
        rootless.start(prepared.user, pid)


def end(box: Box) -> None:
    """As a monitor does when its container has ended. Twice is fine."""
    if box.pid:
        box.end()
        Prepared(box.attachment).tear_down()


@pytest.fixture
def outside(machine: Machine) -> Iterator[Box]:
    """Another machine on a wire to this one: it is 198.51.100.2 and 2001:db8::2, we are .1 and ::1."""
    assert machine.private
    other = Box.start(Attachment("none", "new", child_steps=(attach.loopback_step(),)))
    for command in (
        f"ip link add wire0 type veth peer name wire1 netns {other.pid}",
        f"ip address add {OUTSIDE}.1/24 dev wire0",
        "ip address add 2001:db8::1/64 dev wire0 nodad",
        "ip link set wire0 up",
    ):
        subprocess.run(command.split(), check=True)
    other.ip(f"address add {OUTSIDE}.2/24 dev wire1")
    other.ip("address add 2001:db8::2/64 dev wire1 nodad")
    other.ip("link set wire1 up")
    yield other
    subprocess.run(["ip", "link", "delete", "wire0"], check=True)
    other.end()
