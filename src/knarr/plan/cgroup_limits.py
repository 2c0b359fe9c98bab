"""Resource limits as writes to cgroup files (config-linux.md, Control groups).

A limit goes to the v1 hierarchy of its controller, else to version 2 if that has the controller, else it
becomes a warning. Zero means "not asked" where docker and runc treat it so.
"""

from __future__ import annotations

from knarr.errors import HostError, UsageError
from knarr.plan.step import Step, key, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Cpu, Memory, NetworkClass, Resources
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts

ORIGIN = "linux.resources"
PERIOD_US = 100_000  # the kernel's default


class Home(Record):
    """Where one controller's files are. `v1` or `v2` is a directory, or both are empty."""

    v1: str
    v2: str
    certain: bool


class Compiler:
    """Collects steps. `strict`: what cannot be applied is an error, as the specification has it, and no warning."""

    def __init__(
        self, place: CgroupPlacement, facts: HostFacts, warnings: list[str], strict: bool = False
    ) -> None:
        self.place = place
        self.facts = facts
        self.warnings = warnings
        self.strict = strict
        self.steps: list[Step] = []

    def home(self, v1_name: str, v2_name: str) -> Home:
        v1 = self.place.v1_of(v1_name)
        v2 = self.place.v2 if not v1 and v2_name in self.place.v2_controllers else ""
        return Home(v1, v2, self.place.certain or bool(v1))

    def write(self, home: Home, file: str, value: object, field: str, optional: bool = False) -> None:
        """`optional`: kernels may lack the file."""
        self.step("write", home, field, (file, value), optional=optional)

    def first(self, home: Home, field: str, *files: tuple[str, object]) -> None:
        """Into the first of these files that the kernel has."""
        self.step("write-first", home, field, *files, optional=True)

    def both(self, home: Home, field: str, one: tuple[str, object], other: tuple[str, object]) -> None:
        """Each may only be changed within what the other is: the kernel says which goes first."""
        self.step("write-both", home, field, one, other)

    def step(
        self, op: str, home: Home, field: str, *files: tuple[str, object], optional: bool = False
    ) -> None:
        args = [word for file, value in files for word in (f"{home.v1 or home.v2}/{file}", str(value))]
        tried = not self.strict and (optional or not home.certain)
        self.steps.append(Step(op, tuple(args), f"{ORIGIN}.{field}", tried))

    def tried(self, home: Home, file: str, value: object, field: str) -> None:
        """What few kernels still have and the specification does not insist on: never more than a warning."""
        path = f"{home.v1 or home.v2}/{file}"
        self.steps.append(Step("write", (path, str(value)), f"{ORIGIN}.{field}", optional=True))

    def refuse(self, what: str, why: str = "", *, field: str = "") -> None:
        if self.strict:
            place = f"{ORIGIN}.{field}" if field else what
            raise HostError(f"{place}: cannot be applied: {why or self.reason()}")
        self.warnings.append(f"{what} not applied: {why or self.reason()}")

    def unsigned(self, value: int | None, field: str) -> None:
        if value is not None and not 0 <= value < 1 << 64:
            raise UsageError(f"{ORIGIN}.{field}: {value} is not a number from 0 on")

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
    resources: Resources,
    place: CgroupPlacement,
    facts: HostFacts,
    warnings: list[str],
    *,
    strict: bool = False,
) -> list[Step]:
    """In an order the kernel takes on a new cgroup. Raises `UsageError` for values that contradict each other;
    with `strict` also `HostError` for what nobody can hold."""
    out = Compiler(place, facts, warnings, strict)
    r = resources
    if r.memory:
        _memory(out, r.memory)
    if r.cpu:
        _cpu(out, r.cpu)
        _cpuset(out, r.cpu)
    if r.pids and r.pids.limit is not None:
        _pids(out, r.pids.limit)
    if r.block_io and any(r.block_io):
        from knarr.plan.cgroup_io import block_io

        block_io(out, r.block_io)
    _hugepages(out, r)
    if r.network:
        _network(out, r.network)
    _rdma(out, r)
    _unified(out, r)
    if r.devices and place.devices:
        from knarr.plan.cgroup_devices import device_rule_steps

        out.steps += device_rule_steps(r.devices, place)
    return out.steps


def _memory(out: Compiler, m: Memory) -> None:
    for field, value in (("limit", m.limit), ("reservation", m.reservation), ("swap", m.swap)):
        if value is not None and value < -1:
            raise UsageError(f"{ORIGIN}.memory.{field}: {value} is neither bytes nor -1 for unlimited")
    if m.limit and m.limit > 0 and m.swap and 0 < m.swap < m.limit:
        raise UsageError(
            f"{ORIGIN}.memory.swap: {m.swap}, memory and swap together, is below memory.limit {m.limit}"
        )
    if m.swappiness is not None and not 0 <= m.swappiness <= 100:
        raise UsageError(f"{ORIGIN}.memory.swappiness: {m.swappiness} is not between 0 and 100")
    home = out.home("memory", "memory")
    if home.v1:
        _memory_v1(out, home, m)
    elif home.v2:
        _memory_v2(out, home, m)
    else:
        for name, field, value in (
            ("memory limit", "limit", m.limit),
            ("memory reservation", "reservation", m.reservation),
            ("swap limit", "swap", m.swap),
        ):
            if value and value > 0:
                out.refuse(name, field=f"memory.{field}")


def _memory_v1(out: Compiler, home: Home, m: Memory) -> None:
    if m.use_hierarchy is not None:
        # Always so since Linux 5.11, which refuses 0.
        out.write(home, "memory.use_hierarchy", int(m.use_hierarchy), "memory.useHierarchy", optional=True)
    if m.limit == -1 and not m.swap and out.strict:
        # The limit of both together is never below that of memory alone (memory.rst of cgroup v1): it goes first.
        out.write(home, "memory.memsw.limit_in_bytes", -1, "memory.limit", optional=True)
    if m.limit and m.swap and out.strict:
        out.both(home, "memory", ("memory.limit_in_bytes", m.limit), ("memory.memsw.limit_in_bytes", m.swap))
    else:
        if m.limit:
            out.write(home, "memory.limit_in_bytes", m.limit, "memory.limit")
        if m.swap:
            # Both together, so after the memory limit; the file needs swap accounting in the kernel.
            out.write(home, "memory.memsw.limit_in_bytes", m.swap, "memory.swap", optional=True)
    if m.kernel:
        out.tried(home, "memory.kmem.limit_in_bytes", m.kernel, "memory.kernel")  # without effect since 5.16
    if m.kernel_tcp:
        out.tried(home, "memory.kmem.tcp.limit_in_bytes", m.kernel_tcp, "memory.kernelTCP")
    if m.reservation:
        out.write(home, "memory.soft_limit_in_bytes", m.reservation, "memory.reservation", optional=True)
    if m.swappiness is not None:
        out.write(home, "memory.swappiness", m.swappiness, "memory.swappiness")
    if m.disable_oom_killer:
        out.write(home, "memory.oom_control", 1, "memory.disableOOMKiller", optional=True)


def _memory_v2(out: Compiler, home: Home, m: Memory) -> None:
    swap = _swap_alone(m)
    if swap is not None:
        # Without swap in the kernel there is no such file, and none to limit.
        if swap <= 0:
            out.tried(home, "memory.swap.max", _or_max(swap), "memory.swap")
        else:
            out.write(home, "memory.swap.max", swap, "memory.swap", optional=True)
    if m.limit:
        out.write(home, "memory.max", _or_max(m.limit), "memory.limit")
    if m.reservation:
        out.write(home, "memory.low", _or_max(m.reservation), "memory.reservation")
    for field, value in (
        ("swappiness", m.swappiness), ("kernel", _if_limited(m.kernel)), ("kernelTCP", _if_limited(m.kernel_tcp)),
        ("disableOOMKiller", m.disable_oom_killer or None),
        ("useHierarchy", m.use_hierarchy if m.use_hierarchy is False else None),
    ):  # fmt: skip
        if value is not None:
            out.refuse(f"{ORIGIN}.memory.{field}", "cgroup version 2 has no such setting")


def _swap_alone(m: Memory) -> int | None:
    """Version 2 limits swap without memory: what is left of `swap`, -1 for no limit, None when none is asked."""
    if m.swap == 0 and m.limit is None:
        return 0  # as crun reads it: memory as it likes, and no swap
    if not m.swap:
        return -1 if m.limit == -1 else None
    if m.swap < 0 or m.limit == -1:
        return m.swap
    if not m.limit:
        raise UsageError(
            f"{ORIGIN}.memory.swap: needs memory.limit, from which version 2 computes swap alone"
        )
    return m.swap - m.limit


def _if_limited(value: int | None) -> int | None:
    return value if value and value > 0 else None


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


def _cpu(out: Compiler, c: Cpu) -> None:
    realtime = c.realtime_runtime or c.realtime_period
    if not (c.shares or c.quota or c.period or c.burst or c.idle is not None or realtime):
        return
    for field, value in (("shares", c.shares), ("burst", c.burst), ("realtimePeriod", c.realtime_period)):
        out.unsigned(value, f"cpu.{field}")
    if c.period and not 1000 <= c.period <= 1_000_000:
        raise UsageError(f"{ORIGIN}.cpu.period: {c.period} is not between 1000 and 1000000 microseconds")
    if c.quota and 0 < c.quota < 1000:
        raise UsageError(f"{ORIGIN}.cpu.quota: {c.quota} is below 1000 microseconds")
    if c.burst and c.quota and 0 < c.quota < c.burst:
        raise UsageError(f"{ORIGIN}.cpu.burst: {c.burst} is above cpu.quota {c.quota}")
    if c.idle not in (None, 0, 1):
        raise UsageError(f"{ORIGIN}.cpu.idle: {c.idle} is neither 0 nor 1")
    home = out.home("cpu", "cpu")
    if home.v1:
        _cpu_v1(out, home, c)
    elif home.v2:
        if c.idle is not None:
            out.write(home, "cpu.idle", c.idle, "cpu.idle", optional=True)
        if c.shares and not c.idle:  # an idle cgroup has no weight to set
            out.write(home, "cpu.weight", cpu_weight(c.shares), "cpu.shares")
        if c.quota or c.period:
            quota = str(c.quota) if c.quota and c.quota > 0 else "max"
            out.write(home, "cpu.max", f"{quota} {c.period or PERIOD_US}", "cpu.quota")
        if c.burst is not None:
            out.write(home, "cpu.max.burst", c.burst, "cpu.burst", optional=True)
        if realtime:
            field = "realtimeRuntime" if c.realtime_runtime else "realtimePeriod"
            out.refuse("realtime cpu limit", "cgroup version 2 has no such setting", field=f"cpu.{field}")
    else:
        for name, field, value in (
            ("cpu shares", "shares", c.shares),
            ("cpu limit", "quota", c.quota),
            ("realtime cpu limit", "realtimeRuntime", realtime),
        ):
            if value:
                out.refuse(name, field=f"cpu.{field}")


def _cpu_v1(out: Compiler, home: Home, c: Cpu) -> None:
    if c.idle is not None:
        out.write(home, "cpu.idle", c.idle, "cpu.idle", optional=True)
    if c.shares and not c.idle:
        out.write(home, "cpu.shares", c.shares, "cpu.shares")
    # The quota is a part of the period, of which no more may be given than the cgroup above has.
    if c.period and c.quota:
        out.both(home, "cpu", ("cpu.cfs_period_us", c.period), ("cpu.cfs_quota_us", c.quota))
    elif c.period:
        out.write(home, "cpu.cfs_period_us", c.period, "cpu.period")
    elif c.quota:
        out.write(home, "cpu.cfs_quota_us", c.quota, "cpu.quota")
    if c.burst is not None:
        out.write(home, "cpu.cfs_burst_us", c.burst, "cpu.burst", optional=True)
    period, runtime = ("cpu.rt_period_us", c.realtime_period), ("cpu.rt_runtime_us", c.realtime_runtime)
    if c.realtime_period and c.realtime_runtime:
        out.step("write-both", home, "cpu.realtimeRuntime", period, runtime, optional=True)
    elif c.realtime_period:
        out.write(home, *period, "cpu.realtimePeriod", optional=True)
    elif c.realtime_runtime:
        out.write(home, *runtime, "cpu.realtimeRuntime", optional=True)


def _cpuset(out: Compiler, c: Cpu) -> None:
    home = out.home("cpuset", "cpuset")
    for file, value, name in (("cpuset.cpus", c.cpus, "cpus"), ("cpuset.mems", c.mems, "mems")):
        if value and any(ch not in "0123456789,-" for ch in value):
            raise UsageError(f"{ORIGIN}.cpu.{name}: {quoted(value)} is not a list like 0-3,7")
        if value and (home.v1 or home.v2):
            out.write(home, file, value, f"cpu.{name}")
        elif value:
            out.refuse(f"cpuset {name} {value}", field=f"cpu.{name}")


def _pids(out: Compiler, limit: int) -> None:
    home = out.home("pids", "pids")
    if home.v1 or home.v2:
        out.write(home, "pids.max", _or_max(limit), "pids.limit")  # 0 is a limit
    elif limit >= 0:
        out.refuse("pids limit", field="pids.limit")


def _hugepages(out: Compiler, r: Resources) -> None:
    home = out.home("hugetlb", "hugetlb")
    for i, page in enumerate(r.hugepage_limits):
        field = f"hugepageLimits[{i}]"
        size = page.page_size
        if not (size[:-2].isdigit() and size[-2:] in ("KB", "MB", "GB")) or size[0] == "0":
            raise UsageError(f"{ORIGIN}.{field}.pageSize: {quoted(size)} is not like 2MB")
        out.unsigned(page.limit, f"{field}.limit")
        # Reservations where the kernel counts them (Linux 5.7), and what is used in any case.
        suffix = "limit_in_bytes" if home.v1 else "max"
        if home.v1 or home.v2:
            out.write(home, f"hugetlb.{size}.{suffix}", page.limit, field)
            out.tried(home, f"hugetlb.{size}.rsvd.{suffix}", page.limit, field)
        else:
            out.refuse(f"huge page limit ({size})", field=field)


def _network(out: Compiler, n: NetworkClass) -> None:
    why = "" if out.facts.cgroups_v1 else "cgroup version 2 has no such setting"
    if n.class_id is not None:
        out.unsigned(n.class_id, "network.classID")
        home = out.home("net_cls", "")
        if home.v1:
            out.write(home, "net_cls.classid", n.class_id, "network.classID")
        else:
            out.refuse("network class", why, field="network.classID")
    home = out.home("net_prio", "")
    for i, priority in enumerate(n.priorities):
        if home.v1:
            out.write(
                home, "net_prio.ifpriomap", f"{priority.name} {priority.priority}", f"network.priorities[{i}]"
            )
        else:
            out.refuse(f"network priority of {key(priority.name)}", why, field=f"network.priorities[{i}]")


def _rdma(out: Compiler, r: Resources) -> None:
    home = out.home("rdma", "rdma")
    for device, limit in r.rdma.items():
        field = f"rdma.{key(device)}"
        out.unsigned(limit.hca_handles, f"{field}.hcaHandles")
        out.unsigned(limit.hca_objects, f"{field}.hcaObjects")
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
            out.refuse(f"rdma limit of {key(device)}", field=field)


def _unified(out: Compiler, r: Resources) -> None:
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
