"""The room another runtime works in: what is in it, in what order, and what is not asked of the runtime again."""

from __future__ import annotations

from knarr.oci.spec import IdMap, Linux, Namespace, Process, Root, Spec
from knarr.plan.cgroup import placement
from knarr.plan.exec import ExecSetting
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts, SubIds
from knarr.plan.other_runtime import Room, asked_of_runtime, exec_room_plan, inner, room_plan
from knarr.plan.rootfs import Rootfs
from knarr.plan.step import Step

V1 = (
    CgroupV1(("memory",), "/sys/fs/cgroup/memory", "/job"),
    CgroupV1(("pids",), "/sys/fs/cgroup/pids", "/job"),
)
HYBRID = CgroupV2(mount="/sys/fs/cgroup/unified", own="/job", controllers=(), own_controllers=())
UNIFIED = CgroupV2(
    mount="/sys/fs/cgroup", own="/job", controllers=("memory", "pids"), own_controllers=("memory", "pids")
)
ROOT = HostFacts((6, 12), "x86_64", 0, 0, "root", (1 << 41) - 1, cgroups_v1=V1, cgroup_v2=HYBRID)
ARGV = ("/usr/bin/runc", "run", "ID")
NAMESPACES = tuple(Namespace(kind) for kind in ("mount", "pid", "network", "ipc", "uts", "cgroup"))
SPEC = Spec(
    "1.3.0",
    Root("/rootfs"),
    process=Process("/", ("true",)),
    linux=Linux(NAMESPACES, sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}),
)


def steps(spec: Spec = SPEC, facts: HostFacts = ROOT) -> tuple[Step, ...]:
    place = placement(facts, "ID", every=True)
    return room_plan(
        spec, facts, Room(Rootfs(("/lower",), "/rootfs", "/u", "/w"), place, ARGV, console_fd=3)
    ).steps


def of(op: str, found: tuple[Step, ...]) -> list[tuple[str, ...]]:
    return [step.args for step in found if step.op == op]


def ops(found: tuple[Step, ...]) -> list[str]:
    return [step.op for step in found]


def linux(spec: Spec = SPEC, **changed: object) -> Spec:
    return spec._replace(linux=spec.linux._replace(**changed))


def test_the_runtime_is_alone_and_dies_with_its_monitor() -> None:
    found = steps()
    assert of("clone", found) == [("mnt,pid,net",)]
    names = ops(found)
    assert names.index("enter") < names.index("pdeathsig") < names.index("propagation") < names.index("mount")
    assert names[-3:] == ["reap", "env", "exec"]
    assert found[-1].args == ARGV


def test_host_things_are_seen_before_the_root_is_entered() -> None:
    names = ops(steps())
    assert names.index("open-tree") < names.index("clone")
    assert names.index("bind") < names.index("console") < names.index("overlay") < names.index("root")


def test_it_sees_its_cgroup_as_the_root_of_each_hierarchy() -> None:
    found = steps()
    assert [args[:2] for args in of("open-tree", found)] == [
        ("0", "/sys/fs/cgroup/memory/knarr/ID"),
        ("1", "/sys/fs/cgroup/pids/knarr/ID"),
    ]
    assert [args[:2] for args in of("bind", found)] == [
        ("@0", "/sys/fs/cgroup/memory"),
        ("@1", "/sys/fs/cgroup/pids"),
    ]
    assert ops(found).index("unshare") < ops(found).index("bind")


def test_on_v2_it_is_not_in_the_cgroup_that_gives_controllers_on() -> None:
    found = steps(facts=ROOT._replace(cgroups_v1=(), cgroup_v2=UNIFIED))
    own = "/sys/fs/cgroup/knarr/ID"
    assert of("cgroup-v2", found) == [(own,)]
    assert of("write", found)[-2:] == [
        (f"{own}/runtime/cgroup.procs", "0"),
        (f"{own}/cgroup.subtree_control", "+memory +pids"),
    ]
    assert ops(found).index("unshare") < ops(found).index("bind")
    assert [args[:2] for args in of("bind", found)] == [("@0", "/sys/fs/cgroup")]


def test_network_parameters_are_set_for_it() -> None:
    assert of("sysctl", steps()) == [("net/ipv4/ip_forward", "1")]
    assert asked_of_runtime(SPEC, placement(ROOT, "ID")).linux.sysctl == {"kernel.msgmax": "9000"}


def test_what_the_room_has_is_not_asked_for() -> None:
    mapped = (IdMap(0, 1000, 1),)
    spec = linux(namespaces=(Namespace("user"), *NAMESPACES), uid_mappings=mapped, gid_mappings=mapped)
    asked = asked_of_runtime(spec, placement(ROOT, "ID")).linux
    assert [(n.type, n.path) for n in asked.namespaces] == [
        ("mount", ""), ("pid", ""), ("network", "/proc/self/ns/net"), ("ipc", ""), ("uts", ""), ("cgroup", ""),
    ]  # fmt: skip
    assert (asked.uid_mappings, asked.gid_mappings, asked.cgroups_path) == ((), (), "/container")


def test_anothers_namespaces_are_entered_first() -> None:
    spec = linux(
        namespaces=(
            Namespace("mount"),
            Namespace("network", "/proc/7/ns/net"),
            Namespace("pid", "/proc/8/ns/pid"),
        )
    )
    found = steps(spec)
    assert of("join", found) == [("net", "/proc/7/ns/net"), ("pid", "/proc/8/ns/pid")]
    assert of("clone", found) == [("mnt",)]
    assert ("proc", "proc", "/proc", "0xe", "") in of("mount", found)
    paths = {n.type: n.path for n in asked_of_runtime(spec, placement(ROOT, "ID")).linux.namespaces}
    assert paths == {"mount": "", "network": "/proc/self/ns/net", "pid": "/proc/self/ns/pid"}


def test_the_hosts_namespaces_stay_the_hosts() -> None:
    spec = linux(namespaces=(Namespace("mount"),), sysctl={})
    found = steps(spec)
    assert (of("clone", found), of("join", found)) == ([("mnt",)], [])
    assert not any(args[0] == "proc" for args in of("mount", found))
    assert [n.type for n in asked_of_runtime(spec, placement(ROOT, "ID")).linux.namespaces] == ["mount"]


def test_a_users_room() -> None:
    user = HostFacts(
        (6, 12), "x86_64", 1000, 1000, "ada", subuids=(SubIds(100000, 65536),), subgids=(SubIds(100000, 65536),),
        tools={"newuidmap": "/usr/bin/newuidmap", "newgidmap": "/usr/bin/newgidmap"},
    )  # fmt: skip
    maps = (IdMap(0, 1000, 1), IdMap(1, 100000, 65536))
    spec = linux(namespaces=(Namespace("user"), *NAMESPACES), uid_mappings=maps, gid_mappings=maps)
    found = steps(spec, user)
    assert of("clone", found) == [("user,mnt,pid,net",)]
    assert "become-root" in ops(found)
    assert asked_of_runtime(spec, placement(user, "ID")).linux.cgroups_path == ""


def test_exec_enters_the_room() -> None:
    place = placement(ROOT, "ID", every=True)
    found = exec_room_plan(
        12, 34, ("mnt", "pid"), place, ("runc", "exec"), ExecSetting(console_fd=3, pdeathsig=True)
    ).steps
    names = ops(found)
    assert ("12", "34", "mnt,pid") in of("join-pid", found)
    assert names.index("write") < names.index("join-pid") < names.index("clone") < names.index("console")
    assert names[-3:] == ["pdeathsig", "env", "exec"]


def test_the_containers_own_place() -> None:
    assert inner(placement(ROOT, "ID", every=True)).directories == (
        "/sys/fs/cgroup/unified/knarr/ID/container",
        "/sys/fs/cgroup/memory/knarr/ID/container",
        "/sys/fs/cgroup/pids/knarr/ID/container",
    )
