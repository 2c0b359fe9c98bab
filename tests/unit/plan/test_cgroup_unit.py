"""The unit that a container of `knarr-runtime` is, from its specification."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.oci.document import decode, encode
from knarr.oci.spec import Memory, Resources
from knarr.plan.cgroup import CgroupPlacement, make_steps, teardown_steps
from knarr.plan.cgroup_unit import SUBGROUP, Unit, unit_of, unit_placement
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts

V2 = CgroupV2(("cpu", "memory", "hugetlb"), "/cg", "/system.slice/a.service", ("cpu",), True)
FACTS = HostFacts((6, 1), "x86_64", 0, 0, cgroup_v2=V2, systemd=True)
USER_ROOT = "/user.slice/user-7.slice/user@7.service"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("", Unit("knarr-c1.scope", "system.slice")),
        ("::", Unit("-.scope", "system.slice")),
        (":crun:9", Unit("crun-9.scope", "system.slice")),
        ("machine.slice:libpod:abc", Unit("libpod-abc.scope", "machine.slice")),
        ("a-b.slice::c", Unit("-c.scope", "a-b.slice")),
        ("a.slice:c", Unit("c.scope", "a.slice")),
        ("-:p:n", Unit("p-n.scope", "-.slice")),
        ("-.slice:p:n", Unit("p-n.scope", "-.slice")),
    ],
)
def test_names(path: str, unit: Unit) -> None:
    assert unit_of(path, "c1", {}, rootless=False) == unit


def test_a_users_own() -> None:
    assert unit_of("", "c1", {}, rootless=True).slice == "user.slice"


def test_an_id_that_a_unit_may_not_have() -> None:
    assert unit_of("", "a+b-c", {}, rootless=False).name == "knarr-a\\x2bb-c.scope"


@pytest.mark.parametrize(
    "path",
    ["/knarr/c1", "c1", "a.slice:b:c:d", "a:b:c", ".slice:b:c", "a--b.slice:b:c", "-a.slice:b:c", "a.slice:b:c.slice",
     "a.slice/b.slice:c:d"],
)  # fmt: skip
def test_no_names(path: str) -> None:
    with pytest.raises(UsageError, match=r"linux\.cgroupsPath"):
        unit_of(path, "c1", {}, rootless=False)


@pytest.mark.parametrize("below", ["..", "a/../b", "./a", "a//b"])
def test_no_subgroups(below: str) -> None:
    with pytest.raises(UsageError, match=SUBGROUP):
        unit_of("", "c1", {SUBGROUP: below}, rootless=False)


def test_the_place() -> None:
    at = unit_placement(FACTS, "c1", Unit("p-n.scope", "a-b.slice"), "", Resources(memory=Memory(limit=1)))
    top = "/cg/a.slice/a-b.slice/p-n.scope"
    assert (at.v2, at.scope, at.slice, at.ours) == (top, "p-n.scope", "a-b.slice", "")
    assert at.v2_controllers == ("cpu", "memory", "hugetlb")
    steps = [(s.op, *s.args) for s in make_steps(at)]
    assert steps[0] == ("pause", "scope")  # before anything is touched
    assert steps[-1] == ("mkdir", top, "755")
    # systemd gives no hugetlb: from the root down every slice must.
    assert ("write", "/cg/a.slice/a-b.slice/cgroup.subtree_control", "+cpu +memory +hugetlb") in steps
    assert [s.args[0] for s in teardown_steps(at)] == [top, top]
    assert decode(CgroupPlacement, encode(at)) == at


def test_a_subgroup() -> None:
    at = unit_placement(FACTS, "c1", Unit("n.scope", "a.slice", "in/here"), "", Resources())
    assert at.v2 == "/cg/a.slice/n.scope/in/here"
    assert at.v2_give[-2:] == ("/cg/a.slice/n.scope", "/cg/a.slice/n.scope/in")


def test_version_1() -> None:
    memory = CgroupV1(("memory",), "/cg/memory", "/x")
    named = CgroupV1(("name=systemd",), "/cg/systemd", "/x")
    facts = FACTS._replace(cgroups_v1=(memory, named), cgroup_v2=None)
    at = unit_placement(facts, "c1", Unit("n.scope", "a.slice"), "", Resources())
    assert [p.directory for p in at.v1] == ["/cg/memory/a.slice/n.scope", "/cg/systemd/a.slice/n.scope"]


def test_a_users_place() -> None:
    facts = FACTS._replace(euid=7, egid=7)
    at = unit_placement(facts, "c1", Unit("n.scope", "user.slice"), USER_ROOT, Resources())
    assert at.v2 == f"/cg{USER_ROOT}/user.slice/n.scope"
    assert not at.v2_give and not at.devices
    sub = unit_placement(facts, "c1", Unit("n.scope", "user.slice", "in"), USER_ROOT, Resources())
    assert sub.v2_give == (f"/cg{USER_ROOT}/user.slice/n.scope",)
