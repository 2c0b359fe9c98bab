"""Real cgroups, of whichever kind this machine has: freezing, processes, what they use."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machine import Machine
from knarr.host import cgroups

pytestmark = pytest.mark.requires("root")


@pytest.fixture(params=["freezer", "unified"])
def freezable(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh cgroup that can be frozen: v1's freezer, or any of v2."""
    file = {"freezer": "freezer.state", "unified": "cgroup.freeze"}[request.param]
    for top in machine.cgroups:
        if (top / file).exists():
            yield from fresh(top)
            return
    pytest.skip("this machine lacks: " + request.param)


@pytest.fixture
def own(machine: Machine) -> Iterator[Path]:
    """A fresh cgroup of a hierarchy that counts memory, else of any."""
    yield from fresh(next((c for c in machine.cgroups if (c / "memory.stat").exists()), machine.cgroups[0]))


def fresh(top: Path) -> Iterator[Path]:
    path = top / f"test-{os.getpid()}"
    path.mkdir()
    try:
        yield path
    finally:
        cgroups.thaw(str(path)) if cgroups.frozen(str(path)) else None
        deadline = time.monotonic() + 10
        while cgroups.processes(str(path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        path.rmdir()


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process that counts as fast as it can."""
    with subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) as process:
        yield process
        process.kill()


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_freeze_and_thaw(freezable: Path, worker: subprocess.Popen[bytes]) -> None:
    path = str(freezable)
    (freezable / "cgroup.procs").write_text(str(worker.pid))
    try:
        assert cgroups.processes(path) == [worker.pid]
        assert cgroups.populated(path)
        assert not cgroups.frozen(path)
        cgroups.freeze(path)
        assert cgroups.frozen(path)
        before = ticks(worker.pid)
        time.sleep(0.1)
        assert ticks(worker.pid) == before  # it has stopped, not only been asked to
        cgroups.freeze(path)
        cgroups.thaw(path)
        assert not cgroups.frozen(path)
        deadline = time.monotonic() + 30
        while ticks(worker.pid) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.wait()


def test_an_empty_cgroup(freezable: Path) -> None:
    path = str(freezable)
    assert cgroups.processes(path) == []
    assert not cgroups.populated(path)
    cgroups.freeze(path)
    assert cgroups.frozen(path)
    cgroups.thaw(path)


def test_usage(own: Path, worker: subprocess.Popen[bytes]) -> None:
    (own / "cgroup.procs").write_text(str(worker.pid))
    (own / "below").mkdir()
    try:
        usage = cgroups.usage([str(own)])
        if (own / "memory.stat").exists():
            assert usage.memory_bytes is not None
            assert usage.memory_bytes >= 0
            assert usage.oom_kills == 0
        assert cgroups.processes(str(own)) == [worker.pid]
    finally:
        worker.kill()
        worker.wait()
        (own / "below").rmdir()
