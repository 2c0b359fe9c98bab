"""`cgroup-move`, and the pause before there is a container: what a caller that stepped aside needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.machine import Machine
from native.plans import Native, step
from native.test_files import only

pytestmark = pytest.mark.requires("root", "cgroup-v2")


def test_processes_go_back(native: Native, machine: Machine) -> None:
    mine = next(c for c in machine.cgroups if (c / "cgroup.kill").exists())
    group, back = mine / "left", mine / "entered"
    for directory in (group / "below", back):
        directory.mkdir(parents=True)
    processes = [subprocess.Popen(["sleep", "60"]) for _ in range(5)]
    try:
        for process in processes:
            (group / "cgroup.procs").write_text(str(process.pid))
        (group / "below/cgroup.procs").write_text(str(processes[-1].pid))
        assert only(native, step("cgroup-move", group, back)) == []
        assert (group / "cgroup.procs").read_text() == ""
        assert sorted(pids(back)) == sorted(p.pid for p in processes[:-1])
        assert pids(group / "below") == [processes[-1].pid]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert only(native, step("cgroup-move", group / "none", back)) == []
    assert only(native, step("cgroup-move", back, group / "none"))[0].startswith("fail 0 2 ")
    for directory in (group / "below", group, back):
        directory.rmdir()


def pids(group: Path) -> list[int]:
    return [int(word) for word in (group / "cgroup.procs").read_text().split()]


def test_a_pause_before_the_container_names_the_setter(native: Native) -> None:
    plan = [step("pause", "scope"), step("clone", "pid"), step("enter"), step("env", "PATH=/bin:/usr/bin")]
    outcome = native.init([*plan, step("exec", "true")], answers={"scope": b"go"})
    word, label, pid = outcome.reports[0].split()
    assert (word, label) == ("pause", "scope") and int(pid) > 1
    assert outcome.reports[1].startswith("pid ") and outcome.reports[1] != f"pid {pid}"
