"""Whole plans as text. Each file in golden/ is what `--plan` prints for one container.

After a change that is meant:  KNARR_GOLDEN=write pytest tests/unit/plan/test_golden.py  and read the diff.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.oci.spec import (
    ConsoleSize,
    Device,
    Hooks,
    IdMap,
    IoPriority,
    Linux,
    Memory,
    Mount,
    Namespace,
    Personality,
    Pids,
    Process,
    Resources,
    Rlimit,
    Root,
    Scheduler,
    Spec,
    TimeOffset,
    User,
)
from knarr.plan import cgroup, defaults
from knarr.plan.exec import ExecSetting, ExecTarget, exec_plan
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts, SubIds
from knarr.plan.render import render
from knarr.plan.rootfs import Rootfs
from knarr.plan.seccomp_default import default_seccomp
from knarr.plan.setup import Plan, Setting, container_plan
from knarr.plan.step import Step

GOLDEN = Path(__file__).with_name("golden")
ALL_CAPS = (1 << 41) - 1
V1_NAMES = "cpu,cpuacct cpuset memory devices freezer blkio pids name=systemd".split()

V1 = tuple(
    CgroupV1(tuple(n.split(",")), f"/sys/fs/cgroup/{n.removeprefix('name=')}", "/job") for n in V1_NAMES
)
V2 = CgroupV2(
    ("cpuset", "cpu", "io", "memory", "pids"), "/sys/fs/cgroup", "/", ("cpu", "io", "memory", "pids"), True
)
HYBRID = CgroupV2(("hugetlb",), "/sys/fs/cgroup/unified", "/", ("hugetlb",), True)

ROOT_V1 = HostFacts((6, 12), "x86_64", 0, 0, "root", ALL_CAPS, 40, V1, HYBRID)
ROOT_V2 = HostFacts((6, 12), "x86_64", 0, 0, "root", ALL_CAPS, 40, (), V2)
USER = HostFacts(
    (6, 12), "x86_64", 1000, 1000, "ada", 0, 40, (), V2._replace(own="/user.slice/shell.scope", own_writable=False),
    subuids=(SubIds(100000, 65536),), subgids=(SubIds(100000, 65536),),
    tools={"newuidmap": "/usr/bin/newuidmap", "newgidmap": "/usr/bin/newgidmap"},
)  # fmt: skip
OVERLAY = Rootfs(
    ("/var/lib/knarr/layers/b/diff", "/var/lib/knarr/layers/a/diff"),
    "/c/root",
    "/c/upper",
    "/c/work",
    ("volatile",),
)
DIRECTORY = Setting(bundle="/bundle")


def usual(facts: HostFacts, *, limits: Resources, **changes: object) -> Spec:
    """What `knarr run` makes of an image without options."""
    spec = Spec(
        "1.2.0",
        Root("rootfs"),
        defaults.mounts(facts),
        Process(
            "/srv", ("httpd", "-f"), env=("PATH=/bin", "HOME=/root"),
            capabilities=defaults.capabilities(defaults.CAPABILITIES),
        ),
        "web",
        linux=Linux(
            namespaces=defaults.namespaces(user=False), resources=limits, masked_paths=defaults.MASKED_PATHS,
            readonly_paths=defaults.READONLY_PATHS,
            seccomp=default_seccomp("x86_64", defaults.CAPABILITIES, facts.kernel),
        ),
    )  # fmt: skip
    return spec._replace(**changes)


LIMITS = Resources(defaults.DEVICE_RULES, Memory(100 << 20, None, 200 << 20), pids=Pids(64))


def placed(facts: HostFacts, limits: Resources, *, foreground: bool) -> cgroup.CgroupPlacement:
    return cgroup.placement(facts, "c1", foreground=foreground, resources=limits)


def root_foreground_v1() -> Plan:
    place = placed(ROOT_V1, LIMITS, foreground=True)
    where = Setting(OVERLAY, place, pdeathsig=True, keyring="c1", init_reaper=True)
    return container_plan(usual(ROOT_V1, limits=LIMITS), ROOT_V1, where)


def root_detached_v2() -> Plan:
    place = placed(ROOT_V2, LIMITS, foreground=False)
    network = (Step("netlink", ("0", "00ff", "12"), "network"),), (Step("netlink", ("0", "ff00"), "network"),)
    where = Setting(OVERLAY, place, network_host_steps=network[0], network_child_steps=network[1])
    return container_plan(usual(ROOT_V2, limits=LIMITS), ROOT_V2, where)


def user_with_subordinate_ids() -> Plan:
    uids, gids, cost = defaults.user_maps(USER)
    assert not cost
    spec = usual(USER, limits=LIMITS, mounts=defaults.mounts(USER, userns=True, gids=gids))
    linux = spec.linux._replace(
        namespaces=defaults.namespaces(user=True), uid_mappings=uids, gid_mappings=gids
    )
    where = Setting(OVERLAY, placed(USER, LIMITS, foreground=True), pauses=("network",))
    return container_plan(spec._replace(linux=linux), USER, where)


def user_with_one_id() -> Plan:
    alone = USER._replace(subuids=(), subgids=(), tools={})
    uids, gids, cost = defaults.user_maps(alone)
    assert "one user only" in cost
    spec = usual(
        alone, limits=Resources(), mounts=defaults.mounts(alone, userns=True, gids=gids, network="host")
    )
    linux = spec.linux._replace(
        namespaces=defaults.namespaces(user=True, network="host"), uid_mappings=uids, gid_mappings=gids
    )
    process = Process("/", ("id",), user=User(0, 0, None, (10, 20)), no_new_privileges=True)
    return container_plan(spec._replace(linux=linux, process=process), alone, DIRECTORY)


def privileged() -> Plan:
    caps = defaults.all_capabilities(ROOT_V1, in_userns=False)
    limits = Resources(defaults.ALL_DEVICES)
    spec = usual(ROOT_V1, limits=limits, mounts=defaults.mounts(ROOT_V1, privileged=True))
    assert spec.process
    linux = spec.linux._replace(masked_paths=(), readonly_paths=(), seccomp=None)
    process = spec.process._replace(capabilities=defaults.capabilities(caps))
    where = Setting(OVERLAY, placed(ROOT_V1, limits, foreground=False))
    return container_plan(spec._replace(linux=linux, process=process), ROOT_V1, where)


def everything() -> Plan:
    """Every field that a plan reads, on a machine that refuses some."""
    facts = ROOT_V1._replace(capabilities=ALL_CAPS & ~(1 << 24), apparmor=True, nofile_hard=4096)
    everyone = (IdMap(0, 100000, 65536),)
    spec = Spec(
        "1.2.0",
        Root("rootfs", readonly=True),
        (
            Mount("/proc", "proc", "proc"),
            Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "mode=755")),
            Mount("/dev/pts", "devpts", "devpts", ("newinstance",)),
            Mount("/data", "data", "bind", ("rbind", "rro", "noexec", "rprivate")),
            Mount("/mapped", "/srv", "none", ("bind", "ridmap", "noatime")),
            Mount("/owned", "/srv", "none", ("bind", "idmap"), everyone, everyone),
            Mount("/etc", "tmpfs", "tmpfs", ("tmpcopyup", "size=1m", "ro", "shared")),
            Mount("/ext", "/dev/vdb", "ext4", ("ro", "sync", "data=ordered")),
            Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid")),
            Mount("/data", "", "", ("remount", "rw")),
        ),
        Process(
            "/", ("sh",), terminal=True, console_size=ConsoleSize(24, 80), env=("A=b",),
            user=User(1000, 1000, 0o27, (4, 5)),
            capabilities=defaults.capabilities(("CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_FLY"))._replace(
                inheritable=("CAP_CHOWN",), ambient=("CAP_CHOWN", "CAP_KILL")
            ),
            rlimits=(Rlimit("RLIMIT_NOFILE", 65536, 1024), Rlimit("RLIMIT_CORE", -1, 0)),
            no_new_privileges=True, apparmor_profile="web", selinux_label="system_u:r:c_t:s0", oom_score_adj=-500,
            scheduler=Scheduler("SCHED_BATCH", 5, flags=("SCHED_FLAG_RESET_ON_FORK",)),
            io_priority=IoPriority("IOPRIO_CLASS_BE", 4),
        ),
        "h",
        "d",
        Hooks(),
        Linux(
            namespaces=(
                Namespace("user"), Namespace("mount"), Namespace("pid", "/proc/7/ns/pid"), Namespace("uts"),
                Namespace("network", "/run/netns/a"), Namespace("ipc"), Namespace("time"), Namespace("cgroup"),
            ),
            uid_mappings=everyone, gid_mappings=everyone,
            time_offsets={"monotonic": TimeOffset(86400, 5), "boottime": TimeOffset(-3)},
            devices=(Device("/dev/fuse", "c", 10, 229, 0o20660, 0, 5), Device("/dev/null", "c", 1, 3)),
            rootfs_propagation="shared",
            sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"},
            personality=Personality("LINUX32"),
            masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",),
            seccomp=default_seccomp("x86_64", (), (6, 12)),
        ),
    )  # fmt: skip
    where = Setting(
        None, placed(facts, spec.linux.resources, foreground=False), "/bundle", pauses=("createRuntime",),
        console_fd=3, fifo_fd=5, preserve_fds=2, no_pivot=True, stdio=("-", "-", "-"),
    )  # fmt: skip
    return container_plan(spec, facts, where)


def exec_as_user() -> Plan:
    spec = usual(ROOT_V1, limits=LIMITS)
    process = Process(
        "/srv", ("sh", "-c", "echo it's"), user=User(33, 33), oom_score_adj=100,
        capabilities=defaults.capabilities(defaults.CAPABILITIES),
    )  # fmt: skip
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    target = ExecTarget(4242, 987654, kinds, placed(ROOT_V1, LIMITS, foreground=True))
    return exec_plan(spec, process, target, ROOT_V1, ExecSetting())


def teardown() -> Plan:
    return Plan(tuple(cgroup.teardown_steps(placed(ROOT_V1, LIMITS, foreground=False))))


CASES: tuple[Callable[[], Plan], ...] = (
    root_foreground_v1, root_detached_v2, user_with_subordinate_ids, user_with_one_id, privileged, everything,
    exec_as_user, teardown,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_plan_is_as_written(case: Callable[[], Plan]) -> None:
    path = GOLDEN / f"{case.__name__}.txt"
    text = render(case())
    if os.environ.get("KNARR_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_a_case_for_every_golden_file() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == {case.__name__ for case in CASES}
