"""Where a container lives in the hierarchies, and its limits as writes there."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.oci.document import decode, encode
from knarr.oci.spec import (
    BlockIO,
    Cpu,
    DeviceRule,
    HugepageLimit,
    Memory,
    NetworkClass,
    NetworkPriority,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
)
from knarr.plan import defaults
from knarr.plan.cgroup import (
    CgroupPlacement,
    join_steps,
    make_steps,
    placement,
    resource_steps,
    teardown_steps,
)
from knarr.plan.cgroup_limits import cpu_weight, io_weight
from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts

NAMES = (
    "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls,net_prio rdma name=systemd".split()
)
V1 = tuple(
    CgroupV1(tuple(n.split(",")), f"/cg/{n.removeprefix('name=')}", "/job" if n == "memory" else "/")
    for n in NAMES
)
V2 = CgroupV2(
    ("cpuset", "cpu", "io", "memory", "pids", "hugetlb", "rdma"), "/cg", "/", ("cpu", "memory", "pids"), True
)
CAPS = (1 << 41) - 1
ON_V1 = HostFacts((6, 1), "x86_64", 0, 0, capabilities=CAPS, cgroups_v1=V1)
ON_V2 = HostFacts((6, 1), "x86_64", 0, 0, capabilities=CAPS, cgroup_v2=V2)
HYBRID = ON_V1._replace(
    cgroup_v2=V2._replace(mount="/cg/unified", controllers=("hugetlb",), own_controllers=("hugetlb",))
)
BELOW = ON_V2._replace(cgroup_v2=V2._replace(own="/user/scope"))
USER = BELOW._replace(euid=1000, egid=1000, capabilities=0)
MEMORY = Resources(memory=Memory(1 << 20))


def place(
    facts: HostFacts, *, path: str = "", foreground: bool = False, resources: Resources = MEMORY
) -> CgroupPlacement:
    return placement(facts, "c1", path=path, foreground=foreground, resources=resources)


def writes(
    facts: HostFacts, resources: Resources, *, foreground: bool = False
) -> tuple[dict[str, str], list[str]]:
    """File below the container's cgroup -> what is written, and the warnings."""
    warnings: list[str] = []
    at = place(facts, foreground=foreground, resources=resources)
    first, last = resource_steps(resources, at, facts, warnings)
    return {s.args[0].rpartition("/")[2]: s.args[1] for s in (*first, *last)}, warnings


# ---- places


def test_a_foreground_container_is_below_its_caller() -> None:
    at = place(ON_V1, foreground=True)
    assert at.v1_of("memory") == "/cg/memory/job/knarr-c1"
    assert at.v1_of("pids") == "/cg/pids/knarr-c1"
    assert at.v1_of("cpuset") == ""  # no limit there: it stays where its caller is


def test_a_detached_container_keeps_nobodys_cgroup_alive() -> None:
    at = place(HYBRID)
    assert len(at.v1) == len(V1)
    assert {p.directory for p in at.v1} == {f"{h.mount}/knarr/c1" for h in V1}
    assert at.v2 == "/cg/unified/knarr/c1"


@pytest.mark.parametrize(
    ("path", "memory"), [("/a/b", "/cg/memory/a/b"), ("a/b", "/cg/memory/job/a/b"), ("/a//", "/cg/memory/a")]
)
def test_the_specs_path_wins(path: str, memory: str) -> None:
    assert place(ON_V1, path=path, foreground=True).v1_of("memory") == memory


@pytest.mark.parametrize("path", ["..", "/a/../b", "../x"])
def test_a_path_may_not_climb(path: str) -> None:
    with pytest.raises(UsageError, match=r"linux\.cgroupsPath"):
        place(ON_V1, path=path)


def test_v2_in_the_foreground() -> None:
    at_root = place(ON_V2, foreground=True)
    assert (at_root.v2, at_root.v2_controllers, at_root.v2_give) == ("/cg/knarr-c1", ("memory",), ("/cg",))
    unlimited = place(BELOW, foreground=True, resources=Resources())
    assert (unlimited.v2, unlimited.v2_give) == ("/cg/user/scope/knarr-c1", ())
    # The caller's own cgroup has the caller in it and cannot give controllers to its children.
    limited = place(BELOW, foreground=True)
    assert (limited.v2, limited.v2_controllers, limited.v2_give) == ("/cg/user/knarr-c1", ("memory",), ())
    assert limited.certain


def test_v2_as_a_user() -> None:
    tried = place(USER)
    assert (tried.v2, tried.certain, tried.devices) == ("/cg/user/scope/knarr-c1", False, False)
    assert USER.cgroup_v2
    nowhere = USER._replace(cgroup_v2=USER.cgroup_v2._replace(own_writable=False))
    assert place(nowhere).directories == ()


def test_what_a_placement_tells() -> None:
    v1, v2 = place(ON_V1), place(ON_V2)
    assert v1.oom_file == "/cg/memory/knarr/c1/memory.oom_control"
    assert v1.freezer_file == "/cg/freezer/knarr/c1/freezer.state"
    assert v1.procs_file == "/cg/freezer/knarr/c1/cgroup.procs"
    assert v2.oom_file == "/cg/knarr/c1/memory.events"
    assert v2.freezer_file == "/cg/knarr/c1/cgroup.freeze"
    assert CgroupPlacement()[:2] == ((), "")
    assert not CgroupPlacement().procs_file
    assert list(teardown_steps(CgroupPlacement())) == []


def test_a_placement_survives_on_disk() -> None:
    at = place(HYBRID)
    assert decode(CgroupPlacement, encode(at)) == at


# ---- steps


def test_a_new_cpuset_copies_its_parents() -> None:
    steps = [(s.op, s.args[0]) for s in make_steps(place(ON_V1))]
    at = steps.index(("write", "/cg/cpuset/cgroup.clone_children"))
    assert at < steps.index(("mkdir", "/cg/cpuset/knarr"))


def test_entering_never_waits_for_a_grace_period() -> None:
    steps = list(join_steps(place(HYBRID)))
    assert {s.args[0].rpartition("/")[2] for s in steps if s.op == "write"} == {"tasks"}
    assert steps[-1].op == "cgroup-v2"


def test_controllers_are_given_from_the_top() -> None:
    steps = [s.args[0] for s in make_steps(place(ON_V2))]
    assert steps == [
        "/cg/cgroup.subtree_control",
        "/cg/knarr",
        "/cg/knarr/cgroup.subtree_control",
        "/cg/knarr/c1",
    ]


def test_the_number_of_processes_is_limited_last() -> None:
    resources = Resources(memory=Memory(1 << 20), pids=Pids(1))
    first, last = resource_steps(resources, place(ON_V1, resources=resources), ON_V1, [])
    assert [s.args[0].rpartition("/")[2] for s in first] == ["memory.limit_in_bytes"]
    assert [s.args for s in last] == [("/cg/pids/knarr/c1/pids.max", "1")]


# ---- limits

EVERYTHING = Resources(
    memory=Memory(100, 50, 300, swappiness=10),
    cpu=Cpu(1024, 50000, 10, 100000, cpus="0-1", mems="0", idle=0),
    pids=Pids(-1),
    block_io=BlockIO(
        500,
        throttle_read_bps_device=(ThrottleDevice(8, 0, 1000),),
        throttle_write_iops_device=(ThrottleDevice(8, 1, 5),),
    ),
    hugepage_limits=(HugepageLimit("2MB", 4096),),
    network=NetworkClass(7, (NetworkPriority("eth0", 3),)),
    rdma={"mlx": Rdma(2, 3)},
)


def test_v1_files() -> None:
    assert writes(ON_V1, EVERYTHING) == (
        {
            "memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "300",
            "memory.soft_limit_in_bytes": "50", "memory.swappiness": "10",
            "cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000", "cpu.cfs_burst_us": "10",
            "cpu.idle": "0", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "max",
            "blkio.bfq.weight": "500", "blkio.throttle.read_bps_device": "8:0 1000",
            "blkio.throttle.write_iops_device": "8:1 5",
            "hugetlb.2MB.limit_in_bytes": "4096", "hugetlb.2MB.rsvd.limit_in_bytes": "4096",
            "net_cls.classid": "7", "net_prio.ifpriomap": "eth0 3", "rdma.max": "mlx hca_handle=2 hca_object=3",
        },
        [],
    )  # fmt: skip


def test_v2_files() -> None:
    files, warnings = writes(ON_V2, EVERYTHING._replace(network=None))
    assert files == {
        "memory.max": "100", "memory.swap.max": "200", "memory.low": "50",
        "cpu.weight": "100", "cpu.max": "50000 100000", "cpu.max.burst": "10", "cpu.idle": "0",
        "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "max",
        "io.weight": "4950", "io.max": "8:1 wiops=5", "hugetlb.2MB.max": "4096", "hugetlb.2MB.rsvd.max": "4096",
        "rdma.max": "mlx hca_handle=2 hca_object=3",
    }  # fmt: skip
    assert warnings == ["linux.resources.memory.swappiness not applied: cgroup version 2 has no such setting"]


def test_hybrid_takes_each_controller_where_it_is() -> None:
    facts = HYBRID._replace(cgroups_v1=tuple(h for h in V1 if "hugetlb" not in h.controllers))
    resources = Resources(memory=Memory(100), hugepage_limits=(HugepageLimit("2MB", 1),))
    at = place(facts, resources=resources)
    first, _ = resource_steps(resources, at, facts, [])
    assert [s.args[0] for s in first][:2] == [
        "/cg/memory/knarr/c1/memory.limit_in_bytes",
        "/cg/unified/knarr/c1/hugetlb.2MB.max",
    ]


def test_unified() -> None:
    files, warnings = writes(
        ON_V2, Resources(unified={"memory.high": "7", "io.max": "8:0 rbps=1\n8:1 rbps=2"})
    )
    assert (files["memory.high"], warnings) == ("7", [])
    assert writes(ON_V1, Resources(unified={"memory.high": "7"}))[1]
    with pytest.raises(UsageError, match="unified"):
        writes(ON_V2, Resources(unified={"../x.y": "7"}))


def test_a_limit_nobody_can_hold_is_named_with_its_mend() -> None:
    nothing = HostFacts((6, 1), "x86_64", 1000, 1000)
    files, warnings = writes(nothing, Resources(memory=Memory(100), cpu=Cpu(quota=5000), pids=Pids(3)))
    assert files == {}
    assert [w.split(" not applied")[0] for w in warnings] == ["memory limit", "cpu limit", "pids limit"]
    _, warnings = writes(
        USER._replace(cgroup_v2=V2._replace(own="/a", own_writable=False)), Resources(pids=Pids(3))
    )
    assert "run as root" in warnings[0]


def test_limits_that_may_fail_are_optional_for_a_user() -> None:
    resources = Resources(memory=Memory(100))
    first, _ = resource_steps(resources, place(USER, resources=resources), USER, [])
    assert [(s.args[0].rpartition("/")[2], s.optional) for s in first] == [("memory.max", True)]


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(memory=Memory(-2)), "memory.limit"),
        (Resources(memory=Memory(100, swap=50)), "memory.swap"),
        (Resources(memory=Memory(100, swappiness=101)), "memory.swappiness"),
        (Resources(cpu=Cpu(period=5)), "cpu.period"),
        (Resources(cpu=Cpu(quota=5)), "cpu.quota"),
        (Resources(cpu=Cpu(cpus="0;1")), "cpu.cpus"),
        (Resources(block_io=BlockIO(5)), "blockIO.weight"),
        (Resources(hugepage_limits=(HugepageLimit("2M", 1),)), "hugepageLimits[0].pageSize"),
        (Resources(rdma={"m": Rdma()}), "rdma.m"),
        (Resources(devices=(DeviceRule(True, type="x"),)), "devices[0].type"),
        (Resources(devices=(DeviceRule(True, access="q"),)), "devices[0].access"),
        (Resources(devices=(DeviceRule(True, major=1),)), "devices[0]"),
    ],
)
def test_faults_name_the_field(resources: Resources, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        writes(ON_V1, resources)
    assert str(caught.value).startswith(f"linux.resources.{field}: ")


def test_conversions() -> None:
    assert [cpu_weight(n) for n in (0, 2, 1024, 262144, 1 << 20)] == [1, 1, 100, 10000, 10000]
    assert [io_weight(n) for n in (10, 1000)] == [1, 10000]
    weights = [cpu_weight(n) for n in range(2, 5000, 7)]
    assert weights == sorted(weights)


# ---- devices


def test_v1_device_lists() -> None:
    at = place(ON_V1, resources=Resources(defaults.DEVICE_RULES))
    first, _ = resource_steps(Resources(defaults.DEVICE_RULES), at, ON_V1, [])
    assert first[0].args == ("/cg/devices/knarr/c1/devices.deny", "a")
    assert ("/cg/devices/knarr/c1/devices.allow", "c 1:3 rwm") in [s.args for s in first]
    assert len(first) == len(defaults.DEVICE_RULES)  # nothing is said twice


def test_default_devices_work_whatever_the_rules_say() -> None:
    rules = Resources((DeviceRule(False), DeviceRule(True, "c", 10, 200, "rw")))
    first, _ = resource_steps(rules, place(ON_V1, resources=rules), ON_V1, [])
    assert "c 136:* rwm" in [s.args[1] for s in first]


def test_privileged_needs_no_program() -> None:
    rules = Resources(defaults.ALL_DEVICES)
    assert resource_steps(rules, place(ON_V2, resources=rules), ON_V2, []) == ([], [])
