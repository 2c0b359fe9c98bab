"""Resource limits as writes to cgroup files (config-linux.md, Control groups).

A limit goes to the v1 hierarchy of its controller, else to version 2 if that has the controller, else it
becomes a warning. Zero means "not asked" where docker and runc treat it so.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.step import Step, key, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import BlockIO, Cpu, Memory, NetworkClass, Resources
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts

ORIGIN = "linux.resources"
PERIOD_US = 100_000  # the kernel's default


class Home(Record):
    """Where one controller's files are. `v1` or `v2` is a directory, or both are empty."""

    v1: str
    v2: str
    certain: bool


class _Compiler:
    """Collects steps; one method per controller."""

    def __init__(self, place: CgroupPlacement, facts: HostFacts, warnings: list[str]) -> None:
        self.place = place
        self.facts = facts
        self.warnings = warnings
        self.steps: list[Step] = []

    def home(self, v1_name: str, v2_name: str) -> Home:
        v1 = self.place.v1_of(v1_name)
        v2 = self.place.v2 if not v1 and v2_name in self.place.v2_controllers else ""
        return Home(v1, v2, self.place.certain or bool(v1))

    def write(self, home: Home, file: str, value: object, field: str, optional: bool = False) -> None:
        """`optional`: kernels may lack the file."""
        path = f"{home.v1 or home.v2}/{file}"
        self.steps.append(
            Step("write", (path, str(value)), f"{ORIGIN}.{field}", optional or not home.certain)
        )

    def refuse(self, what: str, why: str = "") -> None:
        self.warnings.append(f"{what} not applied: {why or self.reason()}")

    def reason(self) -> str:
        if not self.facts.cgroups_v1 and self.facts.cgroup_v2 is None:
            return "this machine has no cgroup hierarchy mounted (mount one on /sys/fs/cgroup)"
        if self.facts.rootless:
            way = "run as root, or have a cgroup handed to you: cgroups(7), delegation"
            if self.place.scope:
                way = "run as root, or give `Delegate=yes` to user@.service"
            elif self.facts.systemd:
                way = "run as root, or have a systemd of your own: log in, or `sudo loginctl enable-linger $USER`"
            return f"no cgroup with that controller is delegated to this user ({way})"
        return "no mounted cgroup hierarchy has that controller"


def limit_steps(
    resources: Resources, place: CgroupPlacement, facts: HostFacts, warnings: list[str]
) -> list[Step]:
    """In an order the kernel takes on a new cgroup. Raises `UsageError` for values that contradict each other."""
    out = _Compiler(place, facts, warnings)
    r = resources
    if r.memory:
        _memory(out, r.memory)
    if r.cpu:
        _cpu(out, r.cpu)
        _cpuset(out, r.cpu)
    if r.pids and r.pids.limit is not None:
        _pids(out, r.pids.limit)
    if r.block_io:
        _block_io(out, r.block_io)
    _hugepages(out, r)
    if r.network:
        _network(out, r.network)
    _rdma(out, r)
    _unified(out, r)
    if r.devices and place.devices:
        from knarr.plan.cgroup_devices import device_rule_steps

        out.steps += device_rule_steps(r.devices, place)
    return out.steps


def _memory(out: _Compiler, m: Memory) -> None:
    for field, value in (("limit", m.limit), ("reservation", m.reservation), ("swap", m.swap)):
        if value is not None and value < -1:
            raise UsageError(f"{ORIGIN}.memory.{field}: {value} is neither bytes nor -1 for unlimited")
    if m.limit and m.limit > 0 and m.swap and 0 < m.swap < m.limit:
        raise UsageError(
            f"{ORIGIN}.memory.swap: {m.swap}, memory and swap together, is below memory.limit {m.limit}"
        )
    home = out.home("memory", "memory")
    if not (home.v1 or home.v2):
        for name, value in (
            ("memory limit", m.limit),
            ("memory reservation", m.reservation),
            ("swap limit", m.swap),
        ):
            if value and value > 0:
                out.refuse(name)
        return
    if m.swappiness is not None and not 0 <= m.swappiness <= 100:
        raise UsageError(f"{ORIGIN}.memory.swappiness: {m.swappiness} is not between 0 and 100")
    (_memory_v1 if home.v1 else _memory_v2)(out, home, m)


def _memory_v1(out: _Compiler, home: Home, m: Memory) -> None:
    if m.use_hierarchy:
        out.write(
            home, "memory.use_hierarchy", 1, "memory.useHierarchy", optional=True
        )  # else for good, since 5.11
    if m.kernel:
        out.write(
            home, "memory.kmem.limit_in_bytes", m.kernel, "memory.kernel", optional=True
        )  # gone since 6.x
    if m.kernel_tcp:
        out.write(home, "memory.kmem.tcp.limit_in_bytes", m.kernel_tcp, "memory.kernelTCP", optional=True)
    if m.limit:
        out.write(home, "memory.limit_in_bytes", m.limit, "memory.limit")
    if m.swap:
        # Both together, so after the memory limit; the file needs swap accounting in the kernel.
        out.write(home, "memory.memsw.limit_in_bytes", m.swap, "memory.swap", optional=True)
    if m.reservation:
        out.write(home, "memory.soft_limit_in_bytes", m.reservation, "memory.reservation", optional=True)
    if m.swappiness is not None:
        out.write(home, "memory.swappiness", m.swappiness, "memory.swappiness")
    if m.disable_oom_killer:
        out.write(home, "memory.oom_control", 1, "memory.disableOOMKiller", optional=True)


def _memory_v2(out: _Compiler, home: Home, m: Memory) -> None:
    if m.limit:
        out.write(home, "memory.max", _or_max(m.limit), "memory.limit")
    if m.swap:
        if m.swap > 0 and not (m.limit and m.limit > 0):
            raise UsageError(
                f"{ORIGIN}.memory.swap: needs memory.limit, from which version 2 computes swap alone"
            )
        swap = "max" if m.swap < 0 else str(m.swap - (m.limit or 0))
        out.write(home, "memory.swap.max", swap, "memory.swap", optional=True)
    elif m.limit == -1:
        out.write(home, "memory.swap.max", "max", "memory.swap", optional=True)
    if m.reservation:
        out.write(home, "memory.low", _or_max(m.reservation), "memory.reservation")
    for field, value in (
        ("swappiness", m.swappiness), ("kernel", m.kernel), ("kernelTCP", m.kernel_tcp),
        ("disableOOMKiller", m.disable_oom_killer or None),
    ):  # fmt: skip
        if value is not None:
            out.refuse(f"{ORIGIN}.memory.{field}", "cgroup version 2 has no such setting")


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def cpu_weight(shares: int) -> int:
    """v1 `cpu.shares` 2…262144 as v2 `cpu.weight` 1…10000, through 1024 → 100: the default of one is the default
    of the other, so that containers and the host's processes keep their relation."""
    from math import ceil, log2

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpu(out: _Compiler, c: Cpu) -> None:
    realtime = c.realtime_runtime or c.realtime_period
    if not (c.shares or c.quota or c.period or c.burst or c.idle is not None or realtime):
        return
    if c.period and not 1000 <= c.period <= 1_000_000:
        raise UsageError(f"{ORIGIN}.cpu.period: {c.period} is not between 1000 and 1000000 microseconds")
    if c.quota and 0 < c.quota < 1000:
        raise UsageError(f"{ORIGIN}.cpu.quota: {c.quota} is below 1000 microseconds")
    home = out.home("cpu", "cpu")
    if home.v1:
        _cpu_v1(out, home, c)
    elif home.v2:
        if c.shares:
            out.write(home, "cpu.weight", cpu_weight(c.shares), "cpu.shares")
        if c.quota or c.period:
            quota = str(c.quota) if c.quota and c.quota > 0 else "max"
            out.write(home, "cpu.max", f"{quota} {c.period or PERIOD_US}", "cpu.quota")
        if c.burst is not None:
            out.write(home, "cpu.max.burst", c.burst, "cpu.burst", optional=True)
        if c.idle is not None:
            out.write(home, "cpu.idle", c.idle, "cpu.idle", optional=True)
        if realtime:
            out.refuse("realtime cpu limit", "cgroup version 2 has no such setting")
    else:
        for name, value in (
            ("cpu shares", c.shares),
            ("cpu limit", c.quota),
            ("realtime cpu limit", realtime),
        ):
            if value:
                out.refuse(name)


def _cpu_v1(out: _Compiler, home: Home, c: Cpu) -> None:
    if c.shares:
        out.write(home, "cpu.shares", c.shares, "cpu.shares")
    if c.period:
        out.write(
            home, "cpu.cfs_period_us", c.period, "cpu.period"
        )  # before the quota, which is a part of it
    if c.quota:
        out.write(home, "cpu.cfs_quota_us", c.quota, "cpu.quota")
    if c.burst is not None:
        out.write(home, "cpu.cfs_burst_us", c.burst, "cpu.burst", optional=True)
    if c.realtime_period:
        out.write(home, "cpu.rt_period_us", c.realtime_period, "cpu.realtimePeriod", optional=True)
    if c.realtime_runtime:
        out.write(home, "cpu.rt_runtime_us", c.realtime_runtime, "cpu.realtimeRuntime", optional=True)
    if c.idle is not None:
        out.write(home, "cpu.idle", c.idle, "cpu.idle", optional=True)


def _cpuset(out: _Compiler, c: Cpu) -> None:
    home = out.home("cpuset", "cpuset")
    for file, value, name in (("cpuset.cpus", c.cpus, "cpus"), ("cpuset.mems", c.mems, "mems")):
        if value and any(ch not in "0123456789,-" for ch in value):
            raise UsageError(f"{ORIGIN}.cpu.{name}: {quoted(value)} is not a list like 0-3,7")
        if value and (home.v1 or home.v2):
            out.write(home, file, value, f"cpu.{name}")
        elif value:
            out.refuse(f"cpuset {name} {value}")


def _pids(out: _Compiler, limit: int) -> None:
    home = out.home("pids", "pids")
    if home.v1 or home.v2:
        out.write(home, "pids.max", str(limit) if limit > 0 else "max", "pids.limit")
    elif limit > 0:
        out.refuse("pids limit")


def io_weight(weight: int) -> int:
    """v1 `blkio.weight` 10…1000 as v2 `io.weight` 1…10000."""
    return 1 + (weight - 10) * 9999 // 990


_THROTTLES = (
    ("throttle_read_bps_device", "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttle_write_bps_device", "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttle_read_iops_device", "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttle_write_iops_device", "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)


def _block_io(out: _Compiler, b: BlockIO) -> None:
    if not any(b):
        return
    home = out.home("blkio", "io")
    if b.weight and not 10 <= b.weight <= 1000:
        raise UsageError(f"{ORIGIN}.blockIO.weight: {b.weight} is not between 10 and 1000")
    if not (home.v1 or home.v2):
        out.refuse("block I/O limits")
        return
    if b.weight:
        # Which file there is depends on the I/O scheduler of the day: cfq's is gone since Linux 5.0.
        v1_file = "blkio.bfq.weight" if out.facts.kernel >= (5, 0) else "blkio.weight"
        file, value = (v1_file, b.weight) if home.v1 else ("io.weight", io_weight(b.weight))
        out.write(home, file, value, "blockIO.weight", optional=True)
    if b.leaf_weight:
        if home.v1:
            out.write(home, "blkio.leaf_weight", b.leaf_weight, "blockIO.leafWeight", optional=True)
        else:
            out.refuse(f"{ORIGIN}.blockIO.leafWeight", "cgroup version 2 has no such setting")
    for i, device in enumerate(b.weight_device):
        field, node = f"blockIO.weightDevice[{i}]", f"{device.major}:{device.minor}"
        if device.weight and home.v1:
            v1_file = "blkio.bfq.weight_device" if out.facts.kernel >= (5, 0) else "blkio.weight_device"
            out.write(home, v1_file, f"{node} {device.weight}", field, optional=True)
        elif device.weight:
            out.write(home, "io.weight", f"{node} {io_weight(device.weight)}", field, optional=True)
        if device.leaf_weight and home.v1:
            out.write(home, "blkio.leaf_weight_device", f"{node} {device.leaf_weight}", field, optional=True)
    for attribute, name, v1_file, v2_key in _THROTTLES:
        for i, throttle in enumerate(getattr(b, attribute)):
            field, node = f"blockIO.{name}[{i}]", f"{throttle.major}:{throttle.minor}"
            if home.v1:
                out.write(home, v1_file, f"{node} {throttle.rate}", field)
            else:
                out.write(home, "io.max", f"{node} {v2_key}={throttle.rate or 'max'}", field)


def _hugepages(out: _Compiler, r: Resources) -> None:
    home = out.home("hugetlb", "hugetlb")
    for i, page in enumerate(r.hugepage_limits):
        field = f"hugepageLimits[{i}]"
        size = page.page_size
        if not (size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")) or size[0] == "0":
            raise UsageError(f"{ORIGIN}.{field}.pageSize: {quoted(size)} is not like 2MB")
        if home.v1:
            out.write(home, f"hugetlb.{size}.limit_in_bytes", page.limit, field)
            out.write(home, f"hugetlb.{size}.rsvd.limit_in_bytes", page.limit, field, optional=True)
        elif home.v2:
            out.write(home, f"hugetlb.{size}.max", page.limit, field)
            out.write(home, f"hugetlb.{size}.rsvd.max", page.limit, field, optional=True)
        else:
            out.refuse(f"huge page limit ({size})")


def _network(out: _Compiler, n: NetworkClass) -> None:
    why = "" if out.facts.cgroups_v1 else "cgroup version 2 has no such setting"
    if n.class_id is not None:
        home = out.home("net_cls", "")
        if home.v1:
            out.write(home, "net_cls.classid", n.class_id, "network.classID")
        else:
            out.refuse("network class", why)
    home = out.home("net_prio", "")
    for i, priority in enumerate(n.priorities):
        if home.v1:
            out.write(
                home, "net_prio.ifpriomap", f"{priority.name} {priority.priority}", f"network.priorities[{i}]"
            )
        else:
            out.refuse(f"network priority of {key(priority.name)}", why)


def _rdma(out: _Compiler, r: Resources) -> None:
    home = out.home("rdma", "rdma")
    for device, limit in r.rdma.items():
        field = f"rdma.{key(device)}"
        words = [device]
        if limit.hca_handles is not None:
            words.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            words.append(f"hca_object={limit.hca_objects}")
        if len(words) == 1:
            raise UsageError(f"{ORIGIN}.{field}: limits neither handles nor objects")
        if home.v1 or home.v2:
            out.write(home, "rdma.max", " ".join(words), field)
        else:
            out.refuse(f"rdma limit of {key(device)}")


def _unified(out: _Compiler, r: Resources) -> None:
    for name, value in r.unified.items():
        field = f"unified.{key(name)}"
        if "/" in name or "." not in name or "\0" in name:
            raise UsageError(f"{ORIGIN}.{field}: is not the name of a cgroup file")
        controller = name.partition(".")[0]
        if not out.place.v2 or (controller != "cgroup" and controller not in out.place.v2_controllers):
            out.refuse(f"{ORIGIN}.{field}")
            continue
        home = Home("", out.place.v2, out.place.certain)
        for line in value.splitlines() or [""]:  # a file like io.max takes one device per write
            out.write(home, name, line, field)
