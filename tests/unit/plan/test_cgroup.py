"""Where a container lives in the hierarchies, and its limits as writes there."""

from __future__ import annotations

import pytest

from knarr.errors import HostError, UsageError
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
    WeightDevice,
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
from knarr.plan.cgroup_io import io_weight
from knarr.plan.cgroup_limits import cpu_weight
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
    facts: HostFacts, resources: Resources, *, foreground: bool = False, strict: bool = False
) -> tuple[dict[str, str], list[str]]:
    """File below the container's cgroup -> what is written, and the warnings. Of several files for one thing all."""
    warnings: list[str] = []
    at = place(facts, foreground=foreground, resources=resources)
    first, last = resource_steps(resources, at, facts, warnings, strict=strict)
    pairs = [pair for s in (*first, *last) for pair in zip(s.args[::2], s.args[1::2], strict=True)]
    return {path.rpartition("/")[2]: value for path, value in pairs}, warnings


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
            "blkio.bfq.weight": "500", "blkio.weight": "500", "blkio.throttle.read_bps_device": "8:0 1000",
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
        "io.bfq.weight": "500", "io.weight": "4950", "io.max": "8:1 wiops=5",
        "hugetlb.2MB.max": "4096", "hugetlb.2MB.rsvd.max": "4096",
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
        (Resources(block_io=BlockIO(leaf_weight=9)), "blockIO.leafWeight"),
        (Resources(block_io=BlockIO(weight_device=(WeightDevice(8, 0),))), "blockIO.weightDevice[0]"),
        (
            Resources(block_io=BlockIO(weight_device=(WeightDevice(8, 0, 5),))),
            "blockIO.weightDevice[0].weight",
        ),
        (Resources(cpu=Cpu(quota=5000, burst=6000)), "cpu.burst"),
        (Resources(cpu=Cpu(idle=2)), "cpu.idle"),
        (Resources(cpu=Cpu(shares=-5)), "cpu.shares"),
        (Resources(hugepage_limits=(HugepageLimit("2MB", -1),)), "hugepageLimits[0].limit"),
        (Resources(network=NetworkClass(-1)), "network.classID"),
        (Resources(rdma={"m": Rdma(-1)}), "rdma.m.hcaHandles"),
        (Resources(devices=(DeviceRule(True, type="x"),)), "devices[0].type"),
        (Resources(devices=(DeviceRule(True, access="q"),)), "devices[0].access"),
        (Resources(devices=(DeviceRule(True, major=1),)), "devices[0]"),
    ],
)
def test_faults_name_the_field(resources: Resources, field: str) -> None:
    with pytest.raises(UsageError) as caught:
        writes(ON_V1, resources)
    assert str(caught.value).startswith(f"linux.resources.{field}: ")


# ---- as the specification has it: applied, or an error


@pytest.mark.parametrize(
    ("facts", "resources", "field"),
    [
        (ON_V2, Resources(memory=Memory(swappiness=10)), "memory.swappiness: "),
        (ON_V2, Resources(memory=Memory(kernel=10)), "memory.kernel: "),
        (ON_V2, Resources(memory=Memory(kernel_tcp=10)), "memory.kernelTCP: "),
        (ON_V2, Resources(memory=Memory(disable_oom_killer=True)), "memory.disableOOMKiller: "),
        (ON_V2, Resources(memory=Memory(use_hierarchy=False)), "memory.useHierarchy: "),
        (ON_V2, Resources(cpu=Cpu(realtime_runtime=10)), "cpu.realtimeRuntime: "),
        (ON_V2, Resources(cpu=Cpu(realtime_period=10)), "cpu.realtimePeriod: "),
        (ON_V2, Resources(block_io=BlockIO(leaf_weight=10)), "blockIO.leafWeight: "),
        (ON_V2, Resources(block_io=BlockIO(weight_device=(WeightDevice(8, 0, None, 10),))),
         "blockIO.weightDevice[0].leafWeight: "),
        (ON_V2, Resources(network=NetworkClass(1)), "network.classID: "),
        (ON_V2, Resources(network=NetworkClass(None, (NetworkPriority("e", 1),))), "network.priorities[0]: "),
        (ON_V2, Resources(unified={"misc.max": "1"}), "unified.misc.max: "),
        (ON_V1, Resources(unified={"memory.high": "7"}), "unified.memory.high: "),
        (ON_V1._replace(cgroups_v1=()), MEMORY, "memory.limit: "),
        (ON_V1._replace(cgroups_v1=()), Resources(cpu=Cpu(5)), "cpu.shares: "),
        (ON_V1._replace(cgroups_v1=()), Resources(cpu=Cpu(cpus="0")), "cpu.cpus: "),
        (ON_V1._replace(cgroups_v1=()), Resources(pids=Pids(0)), "pids.limit: "),
        (ON_V1._replace(cgroups_v1=()), Resources(block_io=BlockIO(10)), "blockIO: "),
        (ON_V1._replace(cgroups_v1=()), Resources(hugepage_limits=(HugepageLimit("2MB", 1),)), "hugepageLimits[0]: "),
        (ON_V1._replace(cgroups_v1=()), Resources(rdma={"m": Rdma(1)}), "rdma.m: "),
    ],
)  # fmt: skip
def test_what_cannot_be_applied_is_an_error_or_a_warning(
    facts: HostFacts, resources: Resources, field: str
) -> None:
    with pytest.raises(HostError) as caught:
        writes(facts, resources, strict=True)
    assert str(caught.value).startswith(f"linux.resources.{field}cannot be applied: ")
    assert writes(facts, resources)[1]


def test_nothing_is_only_tried() -> None:
    """But for what kernels dropped, and the reservations of huge pages, which the specification lets fall back."""
    at = place(ON_V1, resources=EVERYTHING)
    everything = EVERYTHING._replace(memory=Memory(100, 50, 300, 5, 6, 10, True, True))
    first, last = resource_steps(everything, at, ON_V1, [], strict=True)
    tried = [s.args[0].rpartition("/")[2] for s in (*first, *last) if s.optional]
    assert tried == [
        "memory.kmem.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes",
    ]  # fmt: skip


def test_values_that_depend_on_one_another_go_in_the_order_that_the_kernel_takes() -> None:
    first, _ = resource_steps(EVERYTHING, place(ON_V1, resources=EVERYTHING), ON_V1, [], strict=True)
    pairs = [tuple(path.rpartition("/")[2] for path in s.args[::2]) for s in first if s.op == "write-both"]
    assert pairs == [
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        ("cpu.cfs_period_us", "cpu.cfs_quota_us"),
    ]


@pytest.mark.parametrize(
    ("memory", "files"),
    [
        (Memory(100, None, 300), {"memory.max": "100", "memory.swap.max": "200"}),
        (Memory(100, None, 100), {"memory.max": "100", "memory.swap.max": "0"}),
        (Memory(100, None, -1), {"memory.max": "100", "memory.swap.max": "max"}),
        (Memory(100, None, 0), {"memory.max": "100"}),
        (Memory(-1), {"memory.max": "max", "memory.swap.max": "max"}),
        (Memory(-1, None, 50), {"memory.max": "max", "memory.swap.max": "50"}),
        (Memory(100, use_hierarchy=True, kernel=-1, kernel_tcp=-1), {"memory.max": "100"}),
    ],
)
def test_swap_alone(memory: Memory, files: dict[str, str]) -> None:
    assert writes(ON_V2, Resources(memory=memory), strict=True) == (files, [])


def test_no_processes_at_all_is_a_limit() -> None:
    for facts in (ON_V1, ON_V2):
        assert writes(facts, Resources(pids=Pids(0)))[0] == {"pids.max": "0"}


def test_an_idle_cgroup_has_no_weight() -> None:
    assert writes(ON_V2, Resources(cpu=Cpu(512, idle=1)))[0] == {"cpu.idle": "1"}
    assert writes(ON_V1, Resources(cpu=Cpu(512, idle=1)))[0] == {"cpu.idle": "1"}


def test_weights_of_devices() -> None:
    resources = Resources(block_io=BlockIO(weight_device=(WeightDevice(8, 0, 500),)))
    assert writes(ON_V1, resources)[0] == {
        "blkio.bfq.weight_device": "8:0 500", "blkio.weight_device": "8:0 500",
    }  # fmt: skip
    assert writes(ON_V2, resources)[0] == {"io.bfq.weight": "8:0 500", "io.weight": "8:0 4950"}


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


def test_some_access_to_all_devices_is_not_all_access() -> None:
    """v1 takes a line that begins with `a` as all of it."""
    rules = Resources((DeviceRule(False), DeviceRule(True, access="r")))
    first, _ = resource_steps(rules, place(ON_V1, resources=rules), ON_V1, [])
    assert [s.args[1] for s in first][:3] == ["a", "b *:* r", "c *:* r"]
    assert "c 136:* rwm" in [s.args[1] for s in first]


def test_default_devices_work_whatever_the_rules_say() -> None:
    rules = Resources((DeviceRule(False), DeviceRule(True, "c", 10, 200, "rw")))
    first, _ = resource_steps(rules, place(ON_V1, resources=rules), ON_V1, [])
    assert "c 136:* rwm" in [s.args[1] for s in first]


def test_privileged_needs_no_program() -> None:
    rules = Resources(defaults.ALL_DEVICES)
    assert resource_steps(rules, place(ON_V2, resources=rules), ON_V2, []) == ([], [])


@pytest.mark.parametrize("path", ["/", ".", "//", "./", "/."])
def test_a_path_that_is_everybodys(path: str) -> None:
    with pytest.raises(UsageError, match="names no cgroup of its own"):
        placement(HostFacts((6, 1), "x86_64", 0, 0), "c1", path=path)
