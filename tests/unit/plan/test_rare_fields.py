"""Fields that few containers have: scheduling, memory policy, network devices, resctrl."""

from __future__ import annotations

import pytest

from knarr.errors import HostError, KnarrError, UsageError
from knarr.oci.spec import (
    CpuAffinity,
    Hook,
    Hooks,
    IdMap,
    IntelRdt,
    IoPriority,
    Linux,
    MemoryPolicy,
    Mount,
    Namespace,
    NetDevice,
    Pids,
    Process,
    Resources,
    Root,
    Scheduler,
    Seccomp,
    Spec,
    SyscallRule,
    User,
)
from knarr.plan.cgroup import CgroupPlacement, V1Place
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import CgroupV2, HostFacts
from knarr.plan.intel_rdt import rdt_teardown_steps
from knarr.plan.setup import Setting, container_plan
from knarr.plan.step import Step

FACTS = HostFacts((6, 12), "x86_64", 0, 0, "root", (1 << 41) - 1, resctrl="/rc")


def steps(
    process: Process | None = None, *, net: str | None = None, facts: HostFacts = FACTS, **linux: object
) -> list[Step]:
    namespaces = (Namespace("mount"), *(() if net is None else (Namespace("network", net),)))
    spec = Spec(
        "1.3.0", Root("/r"), (), process or Process("/", ("sh",)),
        linux=Linux(namespaces=namespaces)._replace(**linux),
    )  # fmt: skip
    return list(container_plan(spec, facts, Setting(container_id="c1")).steps)


def of(found: list[Step], origin: str) -> list[str]:
    return [str(s) for s in found if s.origin.startswith(origin)]


def fault(error: pytest.ExceptionInfo[KnarrError]) -> str:
    return error.value.message.partition(": ")[0]


# ---- scheduling


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (Scheduler("SCHED_OTHER", 5), "0 0 5 0 0 0 0"),
        (Scheduler("SCHED_FIFO", None, 10, ("SCHED_FLAG_RESET_ON_FORK",)), "1 1 0 10 0 0 0"),
        (Scheduler("SCHED_DEADLINE", None, None, (), 10, 20), "6 0 0 0 10 20 0"),
        (Scheduler("SCHED_DEADLINE", None, None, ("SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"), 10, 20, 30),
         "6 6 0 0 10 20 30"),
        (Scheduler("SCHED_ISO"), "4 0 0 0 0 0 0"),
        (Scheduler("SCHED_IDLE"), "5 0 0 0 0 0 0"),
    ],
)  # fmt: skip
def test_schedulers(scheduler: Scheduler, words: str) -> None:
    found = steps(Process("/", ("sh",), scheduler=scheduler))
    assert of(found, "process.scheduler") == [f"scheduler {words}"]


@pytest.mark.parametrize(
    ("scheduler", "field"),
    [
        (Scheduler("SCHED_BEST"), "policy"),
        (Scheduler("SCHED_OTHER", 20), "nice"),
        (Scheduler("SCHED_FIFO"), "priority"),
        (Scheduler("SCHED_RR", None, 100), "priority"),
        (Scheduler("SCHED_OTHER", flags=("SCHED_FLAG_FAST",)), "flags[0]"),
        (Scheduler("SCHED_DEADLINE", deadline=5), "runtime"),
        (Scheduler("SCHED_DEADLINE", runtime=5), "deadline"),
        (Scheduler("SCHED_DEADLINE", runtime=0, deadline=5), "runtime"),
        (Scheduler("SCHED_DEADLINE", runtime=6, deadline=5), "runtime"),
        (Scheduler("SCHED_DEADLINE", runtime=5, deadline=6, period=5), "deadline"),
        (Scheduler("SCHED_DEADLINE", runtime=-5, deadline=6), "runtime"),
    ],
)
def test_schedulers_that_are_none(scheduler: Scheduler, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        steps(Process("/", ("sh",), scheduler=scheduler))
    assert fault(caught) == f"process.scheduler.{field}"


def test_io_priorities() -> None:
    found = steps(Process("/", ("sh",), io_priority=IoPriority("IOPRIO_CLASS_IDLE", 4)))
    assert of(found, "process.ioPriority") == ["ioprio 3 4"]
    for io, field in (
        (IoPriority("IOPRIO_CLASS_X"), "class"),
        (IoPriority("IOPRIO_CLASS_RT", 8), "priority"),
    ):
        with pytest.raises(UsageError) as caught:
            steps(Process("/", ("sh",), io_priority=io))
        assert fault(caught) == f"process.ioPriority.{field}"


def executed(affinity: CpuAffinity) -> list[Step]:
    place = CgroupPlacement((V1Place(("cpuset",), "/cg/c"),))
    spec = Spec("1.3.0", linux=Linux(memory_policy=MemoryPolicy("MPOL_LOCAL")))
    process = Process("/", ("sh",), exec_cpu_affinity=affinity)
    return list(exec_plan(spec, process, ExecTarget(7, 8, ("mnt",), place), FACTS, ExecSetting()).steps)


def test_where_an_exec_begins_and_where_it_runs() -> None:
    found = executed(CpuAffinity("7", "0-3,7"))
    where = [i for i, s in enumerate(found) if s.op == "affinity"]
    cgroup = next(i for i, s in enumerate(found) if s.args[:1] == ("/cg/c/tasks",))
    assert [found[i].args[0] for i in where] == ["7", "0-3,7"]
    assert where[0] < cgroup < [s.op for s in found].index("enter") < where[1]
    assert [s.origin for s in executed(CpuAffinity("", "1")) if s.op == "affinity"] == [
        "process.execCPUAffinity.final"
    ]
    assert of(executed(CpuAffinity()), "process.exec") == []
    assert of(found, "linux.memoryPolicy") == ["mempolicy 4 ''"]
    # It is not about a container's first process.
    assert "affinity" not in [
        s.op for s in steps(Process("/", ("sh",), exec_cpu_affinity=CpuAffinity("1", "2")))
    ]


@pytest.mark.parametrize("cpus", ["a", "1-", "-1", "3-1", "1,,2", "99999", "1;2", "\u0661", " 1"])
def test_lists_of_cpus_that_are_none(cpus: str) -> None:
    for affinity, field in ((CpuAffinity(cpus), "initial"), (CpuAffinity("", cpus), "final")):
        with pytest.raises(UsageError) as caught:
            executed(affinity)
        assert fault(caught) == f"process.execCPUAffinity.{field}"


# ---- memory policy


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (MemoryPolicy("MPOL_DEFAULT"), "0 ''"),
        (MemoryPolicy("MPOL_LOCAL"), "4 ''"),
        (MemoryPolicy("MPOL_PREFERRED"), "1 ''"),
        (MemoryPolicy("MPOL_PREFERRED", "0", ("MPOL_F_STATIC_NODES",)), f"{1 | 1 << 15} 0"),
        (MemoryPolicy("MPOL_BIND", "0-3,7", ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES")),
         f"{2 | 1 << 13 | 1 << 14} 0-3,7"),
        (MemoryPolicy("MPOL_INTERLEAVE", "1"), "3 1"),
        (MemoryPolicy("MPOL_PREFERRED_MANY", "1"), "5 1"),
        (MemoryPolicy("MPOL_WEIGHTED_INTERLEAVE", "1"), "6 1"),
    ],
)  # fmt: skip
def test_memory_policies(policy: MemoryPolicy, words: str) -> None:
    assert of(steps(memory_policy=policy), "linux.memoryPolicy") == [f"mempolicy {words}"]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (MemoryPolicy("MPOL_BEST"), "mode"),
        (MemoryPolicy(""), "mode"),
        (MemoryPolicy("MPOL_PREFERRED", flags=("BAD",)), "flags[0]"),
        (MemoryPolicy("MPOL_BIND", "0", ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES")), "flags"),
        (MemoryPolicy("MPOL_PREFERRED", "0", ("MPOL_F_NUMA_BALANCING",)), "flags"),
        (MemoryPolicy("MPOL_LOCAL", "", ("MPOL_F_STATIC_NODES",)), "flags"),
        (MemoryPolicy("MPOL_INTERLEAVE"), "nodes"),
        (MemoryPolicy("MPOL_PREFERRED", "", ("MPOL_F_STATIC_NODES",)), "nodes"),
        (MemoryPolicy("MPOL_DEFAULT", "0"), "nodes"),
        (MemoryPolicy("MPOL_BIND", "bad"), "nodes"),
        (MemoryPolicy("MPOL_BIND", "10284838"), "nodes"),
    ],
)
def test_memory_policies_that_are_none(policy: MemoryPolicy, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        steps(memory_policy=policy)
    assert fault(caught) == f"linux.memoryPolicy.{field}"


# ---- network devices


def test_a_device_goes_to_a_new_namespace_or_to_one_by_its_path() -> None:
    devices = {"eth0": NetDevice("in%d"), "eth1": NetDevice()}
    found = steps(net="", net_devices=devices)
    assert of(found, "linux.netDevices") == ["net-device eth0 in%d", "net-device eth1 eth1"]
    order = [s.op for s in found]
    assert order.index("clone") < order.index("net-device") < order.index("enter")
    found = steps(net="/run/netns/a", net_devices=devices)
    assert of(found, "linux.netDevices[eth1]") == ["net-device eth1 eth1 /run/netns/a"]
    order = [s.op for s in found]
    assert order.index("net-device") < order.index("join")


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("", "a"), ("x" * 16, "a"), ("a", "x" * 16), ("a", "b/c"), ("a", "%d%d"), ("a%d", "b"), (".", "b"),
        ("a", "b c"), ("a", "b\0"),
    ],
)  # fmt: skip
def test_names_that_are_no_devices(name: str, new: str) -> None:
    with pytest.raises(UsageError, match="is not a device's name"):
        steps(net="", net_devices={name: NetDevice(new)})


def test_a_device_needs_a_namespace_to_go_to() -> None:
    with pytest.raises(UsageError, match=r"linux.netDevices\[eth0\]: needs a network namespace"):
        steps(net_devices={"eth0": NetDevice()})


# ---- resctrl

LINES = IntelRdt("", ("L2:0=f",), "L3:0=7f0", "MB:0=20")


@pytest.mark.parametrize(
    ("rdt", "made", "undone"),
    [
        (IntelRdt(), ["resctrl-group /rc/c1", "write /rc/c1/tasks 0"], ["rmdir? /rc/c1"]),
        (IntelRdt("a"), ["write /rc/a/tasks 0"], []),
        (IntelRdt("/"), ["write /rc/tasks 0"], []),
        (LINES, ["resctrl-group /rc/c1 L3:0=7f0 MB:0=20 L2:0=f", "write /rc/c1/tasks 0"], ["rmdir? /rc/c1"]),
        (LINES._replace(clos_id="a"), ["resctrl-group /rc/a L3:0=7f0 MB:0=20 L2:0=f", "write /rc/a/tasks 0"], []),
        (IntelRdt("a", enable_monitoring=True),
         ["write /rc/a/tasks 0", "mkdir /rc/a/mon_groups/c1 755", "write /rc/a/mon_groups/c1/tasks 0"],
         ["rmdir? /rc/a/mon_groups/c1"]),
    ],
)  # fmt: skip
def test_classes_of_resctrl(rdt: IntelRdt, made: list[str], undone: list[str]) -> None:
    found = steps(intel_rdt=rdt)
    assert of(found, "linux.intelRdt") == made
    assert [str(s) for s in rdt_teardown_steps(rdt, FACTS, "c1")] == undone
    order = [s.origin for s in found]
    assert order.index("linux.intelRdt.closID") < order.index("linux.namespaces")


@pytest.mark.parametrize(
    ("rdt", "field"),
    [
        (IntelRdt("a/b"), "closID"),
        (IntelRdt(".."), "closID"),
        (IntelRdt("info"), "closID"),
        (IntelRdt("a", ("x\ny",)), "schemata[0]"),
        (IntelRdt("a", ("",)), "schemata[0]"),
        (IntelRdt("a", (), "L3:\n"), "l3CacheSchema"),
        (IntelRdt("a", (), "", "L3:0=1"), "memBwSchema"),
    ],
)
def test_classes_that_are_none(rdt: IntelRdt, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        steps(intel_rdt=rdt)
    assert fault(caught) == f"linux.intelRdt.{field}"


def test_without_resctrl_it_is_an_error() -> None:
    with pytest.raises(HostError, match="linux.intelRdt: no resctrl filesystem is mounted"):
        steps(intel_rdt=IntelRdt(), facts=FACTS._replace(resctrl=""))


# ---- names, limits of old, lo


def test_names_have_one_place() -> None:
    def named(sysctl: dict[str, str], domainname: str = "") -> list[Step]:
        linux = Linux(namespaces=(Namespace("mount"), Namespace("uts")), sysctl=sysctl)
        spec = Spec("1.3.0", Root("/r"), (), Process("/", ("sh",)), domainname=domainname, linux=linux)
        return list(container_plan(spec, FACTS, Setting()).steps)

    for sysctl, domainname in (({"kernel.hostname": "a"}, ""), ({"kernel.domainname": "a"}, "b")):
        with pytest.raises(UsageError, match=r"linux.sysctl\[kernel\."):
            named(sysctl, domainname)
    assert named({"kernel.domainname": "a"}, "a")
    assert named({"kernel.domainname": "a"})


@pytest.mark.parametrize(
    ("version", "files"), [("1.2.1", []), ("1.0.2-dev", []), ("1.3.0", ["0"]), ("1.10.0", ["0"])]
)
def test_no_processes_is_a_limit_since_1_3(version: str, files: list[str]) -> None:
    linux = Linux(namespaces=(Namespace("mount"),), resources=Resources(pids=Pids(0)))
    place = CgroupPlacement((V1Place(("pids",), "/cg/p"),))
    plan = container_plan(
        Spec(version, Root("/r"), (), Process("/", ("sh",)), linux=linux), FACTS, Setting(cgroup=place)
    )
    assert [s.args[1] for s in plan.steps if s.args[:1] == ("/cg/p/pids.max",)] == files


def test_a_new_network_namespace_has_lo() -> None:
    assert [s.op for s in steps(net="") if s.op == "netlink"] == ["netlink"]
    assert [s for s in steps(net="/run/netns/a") if s.op == "netlink"] == []


def test_labels_are_not_for_hooks() -> None:
    hooks = Hooks(create_container=(Hook("/h"),))
    spec = Spec(
        "1.3.0", Root("/r"), (), Process("/", ("sh",), apparmor_profile="p"), hooks=hooks,
        linux=Linux(namespaces=(Namespace("mount"),)),
    )  # fmt: skip
    order = [s.op for s in container_plan(spec, FACTS._replace(apparmor=True), Setting()).steps]
    assert order.index("hook") < order.index("label") < order.index("pivot")


def test_calls_that_nobody_knows_are_an_error_for_who_asks_for_that() -> None:
    seccomp = Seccomp("SCMP_ACT_ALLOW", syscalls=(SyscallRule(("read", "reed"), "SCMP_ACT_ERRNO"),))
    spec = Spec(
        "1.3.0",
        Root("/r"),
        (),
        Process("/", ("sh",)),
        linux=Linux(namespaces=(Namespace("mount"),), seccomp=seccomp),
    )
    assert container_plan(spec, FACTS, Setting())
    with pytest.raises(
        UsageError, match=r"linux.seccomp.syscalls\[0\].names: no system call is called 'reed'"
    ):
        container_plan(
            spec._replace(annotations={"run.oci.seccomp_fail_unknown_syscall": "1"}), FACTS, Setting()
        )


def test_a_writable_hierarchy_belongs_to_the_containers_user() -> None:
    def owned(kinds: str = "mount user cgroup", options: tuple[str, ...] = (), v1: bool = False) -> list[str]:
        linux = Linux(
            namespaces=tuple(Namespace(kind) for kind in kinds.split()),
            uid_mappings=(IdMap(0, 1000, 10),), gid_mappings=(IdMap(0, 1000, 10),),
        )  # fmt: skip
        if "user" not in kinds:
            linux = linux._replace(uid_mappings=(), gid_mappings=())
        mounts = (Mount("/sys/fs/cgroup", "cgroup", "cgroup", options),)
        place = CgroupPlacement((V1Place(("pids",), "/cg/p"),) if v1 else (), "/cg/c1")
        spec = Spec("1.3.0", Root("/r"), mounts, Process("/", ("sh",), user=User(5)), linux=linux)
        facts = FACTS._replace(cgroup_v2=CgroupV2((), "/cg", "/"))
        return [
            str(s) for s in container_plan(spec, facts, Setting(cgroup=place)).steps if s.op == "cgroup-own"
        ]

    assert owned() == ["cgroup-own /cg/c1 1005"]
    assert owned(options=("ro",)) == owned("mount user") == owned("mount cgroup") == owned(v1=True) == []


def test_hooks_of_the_start_are_held_by_the_filter() -> None:
    hooks = Hooks(start_container=(Hook("/h"),))
    linux = Linux(namespaces=(Namespace("mount"),), seccomp=Seccomp("SCMP_ACT_ALLOW"))
    spec = Spec(
        "1.3.0", Root("/r"), (), Process("/", ("sh",), no_new_privileges=True), hooks=hooks, linux=linux
    )
    assert [s.op for s in container_plan(spec, FACTS, Setting(fifo_fd=5)).steps][-4:] == [
        "wait-fifo", "seccomp-now", "hook", "exec",
    ]  # fmt: skip
