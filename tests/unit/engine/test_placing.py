"""What decides where a container goes: a hierarchy of plain files stands for the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.engine.placing import entrance, far_from, place
from knarr.oci.spec import Memory, Pids, Resources
from knarr.plan.cgroup import CgroupPlacement
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts

LIMITS = Resources(memory=Memory(1 << 26), pids=Pids(50))
NONE = Resources()


def facts(top: Path, own: str, *members: int, systemd: bool = False, **files: str) -> HostFacts:
    directory = top / own.strip("/")
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in members))
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    v2 = CgroupV2(("memory", "pids"), str(top), own, ("memory", "pids"), True)
    return HostFacts((6, 1), "x86_64", 0, 0, cgroup_v2=v2, systemd=systemd)


def test_the_only_one_steps_aside(tmp_path: Path) -> None:
    at, warnings = place(facts(tmp_path, "/a", os.getpid()), "c1", LIMITS, foreground=True)
    assert (at.origin, warnings) == (f"{tmp_path}/a", ())
    free, _ = place(facts(tmp_path, "/b", os.getpid()), "c1", NONE, foreground=True)
    assert (free.v2, free.origin) == (f"{tmp_path}/b/knarr-c1", "")


def test_a_detached_container_does_not_take_the_callers_cgroup(tmp_path: Path) -> None:
    user = facts(tmp_path, "/a", os.getpid())._replace(euid=1000)
    at, _ = place(user, "c1", LIMITS)
    assert (at.v2, at.ours, at.certain) == (f"{tmp_path}/a/knarr-c1", "", False)


def test_a_services_own_cgroup_is_left_to_systemd(tmp_path: Path) -> None:
    service = facts(tmp_path, "/a.service", os.getpid(), systemd=True, memory_max="33554432\n")
    assert service.cgroup_v2
    unasked = service._replace(cgroup_v2=service.cgroup_v2._replace(whole=False))  # no scope can be had
    at, warnings = place(unasked, "c1", LIMITS, foreground=True)
    assert at.origin == "" and "Delegate=yes" in warnings[0]
    service = service._replace(systemd=False)
    assert place(service, "c1", LIMITS, foreground=True)[0].origin == f"{tmp_path}/a.service"


def test_a_limit_that_does_not_hold_is_said(tmp_path: Path) -> None:
    shared = facts(
        tmp_path, "/a/b", os.getpid(), 1, memory_max="33554432\n", cpu_max="max 100000\n", pids_max="40\n"
    )
    at, warnings = place(shared, "c1", LIMITS, foreground=True)
    assert at.v2 == f"{tmp_path}/a/knarr-c1"
    assert [w.partition(" does")[0] for w in warnings] == [
        "memory.max 33554432 of /a/b",
        "pids.max 40 of /a/b",
    ]
    # A stricter limit of the container's own makes the caller's one hold anyway.
    assert (
        place(shared, "c1", LIMITS._replace(memory=Memory(1 << 20), pids=Pids(4)), foreground=True)[1] == ()
    )


def test_a_path_asked_for_is_taken(tmp_path: Path) -> None:
    at, warnings = place(facts(tmp_path, "/a", os.getpid()), "c1", LIMITS, parent="/x/", foreground=True)
    assert (at.v2, at.ours, warnings) == (f"{tmp_path}/x/c1", "", ())


def test_v1_is_as_it_was(tmp_path: Path) -> None:
    old = facts(tmp_path, "/a", os.getpid(), systemd=True)
    old = old._replace(cgroups_v1=(CgroupV1(("memory",), "/cg/memory", "/"),))
    at, _ = place(old, "c1", LIMITS, foreground=True)
    assert at.v1_of("memory") == "/cg/memory/knarr-c1" and not at.scope


@pytest.mark.parametrize(
    ("own", "children", "expected"),
    [("/x/knarr-1.scope/container", "", ""), ("/x/knarr-1.scope/container/init", "memory", "/init"),
     ("/elsewhere", "memory", ""), ("/x/knarr-1.scope/container/../../y", "memory", "")],
)  # fmt: skip
def test_where_an_exec_starts(tmp_path: Path, own: str, children: str, expected: str) -> None:
    directory = tmp_path / "x/knarr-1.scope/container"
    directory.mkdir(parents=True)
    (directory / "cgroup.subtree_control").write_text(children)
    at = CgroupPlacement(v2=str(directory))
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text(f"1:name=systemd:/\n0::{own}\n")
    assert entrance(at, str(process)).v2 == f"{directory}{expected}"


def test_far_and_near(tmp_path: Path) -> None:
    v2 = facts(tmp_path, "/u/own").cgroup_v2
    at = CgroupPlacement(v2=f"{tmp_path}/u/s/knarr-1.scope/container", scope="knarr-1.scope")
    assert far_from(at, v2)  # there is no cgroup.procs in /u that could be written
    (tmp_path / "u/cgroup.procs").touch()
    assert not far_from(at, v2)
    assert not far_from(at._replace(scope=""), None)
