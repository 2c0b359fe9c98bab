"""A container's place in a scope of systemd, and the caller that steps aside for one of its own."""

from __future__ import annotations

import pytest

from knarr.oci.document import decode, encode
from knarr.oci.spec import Memory, Resources
from knarr.plan.cgroup import CgroupPlacement, make_steps, placement, resource_steps, teardown_steps
from knarr.plan.cgroup_scope import Manager, scope_placement, slice_of, slice_path
from knarr.plan.facts import CgroupV2, HostFacts

OWN = "/system.slice/a.service"
V2 = CgroupV2(("cpu", "io", "memory", "pids", "misc"), "/cg", OWN, ("memory", "pids"), True)
FACTS = HostFacts((6, 1), "x86_64", 0, 0, cgroup_v2=V2, systemd=True)
MEMORY = Resources(memory=Memory(1 << 20))
SYSTEM = Manager("", ("cpu", "io", "memory", "pids"))


@pytest.mark.parametrize(
    ("name", "path"),
    [("machine.slice", "/machine.slice"), ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"), ("-.slice", "")],
)
def test_a_slices_path(name: str, path: str) -> None:
    assert slice_path(name) == path


@pytest.mark.parametrize(
    ("own", "root", "name"),
    [
        (OWN, "", "system.slice"),
        ("/init.scope", "", "-.slice"),
        ("/user.slice/user-1.slice/session-2.scope", "", "user-1.slice"),
        ("/user.slice/user-1.slice/session-2.scope", "/user.slice/user-1.slice/user@1.service", ""),
        ("/u/user@1.service/app.slice/app-x.slice/y.scope", "/u/user@1.service", "app-x.slice"),
        ("/u/user@11.service/app.slice/y.scope", "/u/user@1.service", ""),
        ("/a.service/b.slice", "", "-.slice"),  # below a delegated unit: nothing of this manager's
    ],
)
def test_the_slice_of_a_cgroup(own: str, root: str, name: str) -> None:
    assert slice_of(own, root) == name


def test_a_scope() -> None:
    at = scope_placement(FACTS, "c1", SYSTEM, "machine.slice", frozenset({"memory"}))
    top = "/cg/machine.slice/knarr-c1.scope"
    assert (at.v2, at.ours, at.scope, at.slice) == (
        f"{top}/container", f"{top}/monitor", "knarr-c1.scope", "machine.slice",
    )  # fmt: skip
    assert at.v2_controllers == ("cpu", "io", "memory", "pids")
    assert decode(CgroupPlacement, encode(at)) == at
    steps = [(s.op, *s.args) for s in make_steps(at)]
    # Nothing is touched before systemd has made the scope; the container's part of it is S's work.
    assert steps == [
        ("pause", "scope"),
        ("write", f"{top}/cgroup.subtree_control", "+cpu +io +memory +pids"),
        ("mkdir", f"{top}/container", "755"),
    ]
    before, _ = resource_steps(MEMORY, at, FACTS, [])
    assert before[0].args == (f"{top}/container/memory.max", str(1 << 20))
    # The rest is removed by systemd, once the monitor that executes this has ended.
    assert [(s.op, *s.args) for s in teardown_steps(at)] == [
        ("cgroup-kill", f"{top}/container"), ("rmdir", f"{top}/container"),
    ]  # fmt: skip


def test_alone_in_its_cgroup_the_caller_steps_aside() -> None:
    at = placement(FACTS, "c1", foreground=True, resources=MEMORY, alone=True)
    own = f"/cg{OWN}"
    top = f"{own}/knarr-c1"
    assert (at.v2, at.ours, at.origin, at.certain) == (f"{top}/container", f"{top}/monitor", own, True)
    assert at.v2_give == (own, top)
    undone = [(s.op, *s.args) for s in teardown_steps(at)]
    # Back where it came from, which only takes processes again when its children have no controllers.
    assert undone == [
        ("cgroup-kill", f"{top}/container"),
        ("rmdir", f"{top}/container"),
        ("write", f"{top}/cgroup.subtree_control", "-memory"),
        ("write", f"{own}/cgroup.subtree_control", "-memory"),
        ("cgroup-move", f"{top}/monitor", own),
        ("rmdir", f"{top}/monitor"),
        ("rmdir", top),
    ]


def test_nobody_moves_without_need() -> None:
    assert placement(FACTS, "c1", foreground=True, alone=True).ours == ""  # no limit asked
    shared = placement(FACTS, "c1", foreground=True, resources=MEMORY)
    assert (shared.v2, shared.ours) == ("/cg/system.slice/knarr-c1", "")
    root = FACTS._replace(cgroup_v2=V2._replace(own="/"))
    assert placement(root, "c1", foreground=True, resources=MEMORY, alone=True).ours == ""
    asked = placement(FACTS, "c1", path="a/b", foreground=True, resources=MEMORY, alone=True)
    assert asked.ours == ""


def test_the_root_of_a_part_of_the_hierarchy_is_no_root() -> None:
    """In a container the rule about processes and controllers holds at `/` as well."""
    inside = FACTS._replace(cgroup_v2=V2._replace(own="/", own_controllers=V2.controllers, whole=False))
    assert not placement(inside, "c1", resources=MEMORY).certain
    aside = placement(inside, "c1", foreground=True, resources=MEMORY, alone=True)
    assert (aside.v2, aside.origin) == ("/cg/knarr-c1/container", "/cg")


@pytest.mark.parametrize(
    ("systemd", "scope", "way"),
    [(False, "", "cgroups(7)"), (True, "", "enable-linger"), (True, "x", "user@.service")],
)
def test_what_would_let_a_user_limit(systemd: bool, scope: str, way: str) -> None:
    warnings: list[str] = []
    user = FACTS._replace(euid=1000, systemd=systemd)
    resource_steps(MEMORY, CgroupPlacement(scope=scope), user, warnings)
    assert len(warnings) == 1 and way in warnings[0]
