"""container_plan: what comes before what, and which field a fault names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knarr.errors import HostError, UsageError
from knarr.oci.spec import (
    Device,
    IdMap,
    IoPriority,
    Linux,
    Mount,
    Namespace,
    NetDevice,
    Personality,
    Process,
    Rlimit,
    Root,
    Scheduler,
    Seccomp,
    Spec,
    SyscallRule,
    TimeOffset,
    User,
)
from knarr.plan import defaults
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import HostFacts
from knarr.plan.rootfs import Rootfs
from knarr.plan.setup import Plan, Setting, container_plan
from knarr.plan.step import to_wire

ALL_CAPS = (1 << 41) - 1
ROOT = HostFacts((6, 12), "x86_64", 0, 0, "root", ALL_CAPS)
USER = HostFacts((6, 12), "x86_64", 1000, 1000, "ada")
BASE = Spec(
    "1.2.0",
    Root("/rootfs"),
    process=Process("/", ("true",)),
    linux=Linux((Namespace("mount"), Namespace("pid"))),
)


def spec(**linux: object) -> Spec:
    return BASE._replace(linux=BASE.linux._replace(**linux))


def with_process(**process: object) -> Spec:
    assert BASE.process
    return BASE._replace(process=BASE.process._replace(**process))


def plan(of: Spec, facts: HostFacts = ROOT, where: Setting | None = None) -> Plan:
    return container_plan(of, facts, where or Setting())


def ops(of: Plan) -> list[str]:
    return [step.op for step in of.steps]


def before(of: Plan, first: str, then: str) -> bool:
    names = ops(of)
    return names.index(first) < names.index(then)


FILTER = Seccomp("SCMP_ACT_ERRNO", syscalls=(SyscallRule(("read",), "SCMP_ACT_ALLOW"),))


def test_without_no_new_privs_the_filter_comes_while_there_are_capabilities() -> None:
    got = plan(spec(seccomp=FILTER))
    assert before(got, "seccomp", "bounding")
    assert "no-new-privs" not in ops(got)


def test_with_no_new_privs_the_filter_comes_last() -> None:
    got = plan(with_process(no_new_privileges=True)._replace(linux=spec(seccomp=FILTER).linux))
    assert before(got, "caps", "no-new-privs")
    assert before(got, "no-new-privs", "seccomp")


def test_what_needs_a_right_comes_before_it_goes() -> None:
    got = plan(
        with_process(rlimits=(Rlimit("RLIMIT_CORE", 0, 0),), scheduler=Scheduler("SCHED_FIFO", priority=1))
    )
    for op in ("scheduler", "rlimit", "chdir"):
        assert before(got, op, "bounding")
    assert before(got, "bounding", "user")
    assert before(got, "user", "caps")


def test_the_root_becomes_read_only_after_everything_was_made_in_it() -> None:
    got = plan(BASE._replace(root=Root("/r", True), mounts=(Mount("/proc", "proc", "proc"),)))
    assert before(got, "mount", "root-attr")
    assert before(got, "pivot", "root-attr")


def test_process_one_of_init_is_as_confined_as_the_rest() -> None:
    got = plan(spec(seccomp=FILTER), where=Setting(init_reaper=True))
    assert before(got, "caps", "reap")
    assert before(got, "seccomp", "reap")


def test_the_parent_signal_is_set_again_after_the_identity_changed() -> None:
    names = ops(plan(BASE, where=Setting(pdeathsig=True)))
    assert names.count("pdeathsig") == 2
    assert names.index("caps") < len(names) - 1 - names[::-1].index("pdeathsig")


def test_cgroup_namespace_is_made_by_the_child_itself() -> None:
    got = plan(spec(namespaces=(Namespace("mount"), Namespace("cgroup"))))
    clone = next(s for s in got.steps if s.op == "clone")
    assert clone.args == ("mnt",)
    assert before(got, "enter", "unshare")


def test_root_joins_the_user_namespace_last_but_for_mounts() -> None:
    joined = tuple(Namespace(kind, f"/ns/{kind}") for kind in ("user", "mount", "network"))
    got = plan(spec(namespaces=joined))
    assert [s.args[0] for s in got.steps if s.op == "join"] == ["net", "user", "mnt"]
    got = plan(spec(namespaces=joined), USER)
    assert [s.args[0] for s in got.steps if s.op == "join"] == ["user", "net", "mnt"]
    assert "propagation" not in ops(got)  # the mount namespace is somebody else's


def test_time_offsets_are_written_where_the_right_is() -> None:
    of = spec(
        namespaces=(Namespace("user"), Namespace("mount"), Namespace("time")),
        uid_mappings=(IdMap(0, 1000, 1),), gid_mappings=(IdMap(0, 1000, 1),),
        time_offsets={"monotonic": TimeOffset(7)},
    )  # fmt: skip
    assert before(plan(of), "write", "clone")
    assert before(plan(of, USER), "enter", "write")


def test_nodes_are_bound_in_a_user_namespace_and_made_outside() -> None:
    assert "device" in ops(plan(BASE))
    inside = spec(
        namespaces=(Namespace("user"), Namespace("mount")),
        uid_mappings=(IdMap(0, 5, 9),), gid_mappings=(IdMap(0, 5, 9),),
    )  # fmt: skip
    assert "device" not in ops(plan(inside))
    assert "device" not in ops(plan(BASE, ROOT._replace(capabilities=ALL_CAPS & ~(1 << 27))))
    assert "device" not in ops(plan(BASE._replace(mounts=(Mount("/dev", "/dev", "bind", ("rbind",)),))))


def test_maps_by_helpers_run_in_parallel_and_are_waited_for() -> None:
    maps = (IdMap(0, 1000, 1), IdMap(1, 100000, 65536))
    of = spec(namespaces=(Namespace("user"), Namespace("mount")), uid_mappings=maps, gid_mappings=maps)
    with pytest.raises(HostError, match="newuidmap"):
        plan(of, USER)
    tools = {"newuidmap": "/bin/u", "newgidmap": "/bin/g"}
    names = ops(plan(of, USER._replace(tools=tools)))
    at = names.index("spawn")
    assert names[at : at + 3] == ["spawn", "spawn", "wait-spawned"]


def test_capabilities_the_caller_lacks_are_named_and_left_out() -> None:
    caps = defaults.capabilities(("CAP_SYS_RESOURCE", "CAP_CHOWN", "CAP_NOPE"))
    got = plan(with_process(capabilities=caps), ROOT._replace(capabilities=1))
    assert next(s.args for s in got.steps if s.op == "caps") == ("0x1", "0x1", "0x0", "0x0")
    assert [w.split(": ")[1].split()[0] for w in got.warnings] == ["CAP_SYS_RESOURCE", "CAP_NOPE"]


def test_no_capabilities_at_all_drops_every_one() -> None:
    assert next(s.args for s in plan(BASE).steps if s.op == "bounding") == ("0x0",)


def test_an_overlay_is_mounted_before_its_root_is_taken() -> None:
    got = plan(BASE, where=Setting(Rootfs(("/l",), "/m", "/u", "/w", ("userxattr",))))
    overlay = next(s for s in got.steps if s.op == "overlay")
    assert overlay.args == ("/m", "/u", "/w", "userxattr", "/l")
    assert before(got, "overlay", "root")


def test_every_plan_can_be_sent() -> None:
    assert to_wire(plan(BASE).steps).startswith(b"knarr-plan\0")


FAULTS: tuple[tuple[Spec, str], ...] = (
    (BASE._replace(process=None), "process: "),
    (BASE._replace(root=None), "root.path: "),
    (with_process(cwd="srv"), "process.cwd: "),
    (with_process(args=()), "process.args: "),
    (with_process(terminal=True), "process.terminal: "),
    (with_process(user=User(-1)), "process.user.uid: "),
    (with_process(user=User(umask=0o7777)), "process.user.umask: "),
    (with_process(rlimits=(Rlimit("NOFILE", 1, 1),)), "process.rlimits[0].type: "),
    (with_process(rlimits=(Rlimit("RLIMIT_CORE", 1, 2),)), "process.rlimits[0].soft: "),
    (with_process(rlimits=(Rlimit("RLIMIT_CORE", 1, 1),) * 2), "process.rlimits[1].type: "),
    (with_process(oom_score_adj=2000), "process.oomScoreAdj: "),
    (with_process(scheduler=Scheduler("SCHED_X")), "process.scheduler.policy: "),
    (with_process(io_priority=IoPriority("X")), "process.ioPriority.class: "),
    (spec(namespaces=(Namespace("mnt"),)), "linux.namespaces[0].type: "),
    (spec(namespaces=(Namespace("pid"),)), "linux.namespaces: a mount namespace"),
    (spec(net_devices={"eth0": NetDevice()}), "linux.netDevices[eth0]: "),
    (spec(namespaces=(Namespace("pid"), Namespace("pid"))), "linux.namespaces[1].type: "),
    (spec(namespaces=(Namespace("pid", "ns"),)), "linux.namespaces[0].path: "),
    (spec(uid_mappings=(IdMap(0, 0, 1),)), "linux.uidMappings: "),
    (
        spec(namespaces=(Namespace("user"), Namespace("mount")), gid_mappings=(IdMap(0, 0, 1),)),
        "linux.uidMappings: ",
    ),
    (spec(time_offsets={"monotonic": TimeOffset(1)}), "linux.timeOffsets: "),
    (spec(rootfs_propagation="sideways"), "linux.rootfsPropagation: "),
    (spec(sysctl={"vm.swappiness": "1"}), "linux.sysctl[vm.swappiness]: "),
    (spec(sysctl={"net.ipv4.ip_forward": "1"}), "linux.sysctl[net.ipv4.ip_forward]: "),
    (spec(sysctl={"net/../kernel/x": "1"}), "linux.sysctl[net/../kernel/x]: "),
    (spec(devices=(Device("/dev/a", "x"),)), "linux.devices[0].type: "),
    (spec(devices=(Device("/dev/a", "c", 1 << 12),)), "linux.devices[0].major: "),
    (spec(personality=Personality("BSD")), "linux.personality.domain: "),
    (BASE._replace(hostname="h"), "hostname: "),
    (BASE._replace(mounts=(Mount("", "a", "tmpfs"),)), "mounts[0].destination: "),
    (BASE._replace(mounts=(Mount("/a", "/a"),)), "mounts[0].type: "),
    (BASE._replace(mounts=(Mount("/a", "", "none", ("bind",)),)), "mounts[0].source: "),
    (BASE._replace(mounts=(Mount("/a", "/b", "none", ("bind", "idmap")),)), "mounts[0].options: "),
    (BASE._replace(mounts=(Mount("/a", "b", "tmpfs", ("idmap",)),)), "mounts[0].options: "),
    (BASE._replace(mounts=(Mount("/a", "b", "proc", ("tmpcopyup",)),)), "mounts[0].options: "),
    (spec(seccomp=Seccomp("SCMP_ACT_NO")), "linux.seccomp.defaultAction: "),
)


@pytest.mark.parametrize(("of", "field"), FAULTS, ids=[field for _, field in FAULTS])
def test_a_fault_names_its_field(of: Spec, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(of)
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize(
    ("maps", "why"),
    [
        ((IdMap(0, 0, 1), IdMap(1, 1, 0)), "not a range"),
        ((IdMap(0, 0, 5), IdMap(4, 100, 2)), "overlaps"),
        ((IdMap(0, 0, 5), IdMap(100, 4, 2)), "overlaps"),
        ((IdMap(0, (1 << 32) - 1, 2),), "largest id"),
        (tuple(IdMap(i, i, 1) for i in range(341)), "340"),
    ],
)
def test_maps_the_kernel_would_refuse(maps: tuple[IdMap, ...], why: str) -> None:
    namespaces = (Namespace("user"), Namespace("mount"))
    of = spec(namespaces=namespaces, uid_mappings=maps, gid_mappings=(IdMap(0, 0, 1),))
    with pytest.raises(UsageError, match=why):
        plan(of)


def test_a_user_that_is_not_mapped() -> None:
    of = with_process(user=User(33))
    linux = of.linux._replace(
        namespaces=(Namespace("user"), Namespace("mount")),
        uid_mappings=(IdMap(0, 1000, 1),),
        gid_mappings=(IdMap(0, 1000, 1),),
    )
    with pytest.raises(UsageError, match=r"process\.user\.uid: 33 does not exist"):
        plan(of._replace(linux=linux), USER)


def run(process: Process, target: ExecTarget, where: ExecSetting | None = None) -> Plan:
    return exec_plan(BASE, process, target, ROOT, where or ExecSetting())


def test_exec_enters_all_namespaces_at_once_and_becomes_root_of_a_user_namespace() -> None:
    got = run(Process("/", ("sh",)), ExecTarget(7, 99, ("net", "user", "mnt")))
    assert next(s.args for s in got.steps if s.op == "join-pid") == ("7", "99", "user,mnt,net")
    assert before(got, "enter", "become-root")
    assert ops(got)[-1] == "exec"


@pytest.mark.parametrize(
    "call",
    [
        lambda: run(Process("x", ("sh",)), ExecTarget(7, 9, ())),
        lambda: run(Process("/", ()), ExecTarget(7, 9, ())),
        lambda: run(Process("/", ("sh",)), ExecTarget(7, 9, ("mount",))),
        lambda: run(Process("/", ("sh",), terminal=True), ExecTarget(7, 9, ())),
    ],
)
def test_exec_faults(call: Callable[[], Plan]) -> None:
    with pytest.raises(UsageError):
        call()
