"""A container's limits (config-linux.md, Control groups) as the properties of a unit (systemd.resource-control(5)).

systemd owns a unit's cgroup: what is only written into its files is lost at the next change of the unit or reload of
the manager. What it has no property for is only written: it leaves such files alone.
"""

from __future__ import annotations

from knarr.errors import HostError, UsageError
from knarr.plan.cgroup_devices import ALWAYS, allows_all
from knarr.plan.cgroup_io import io_weight
from knarr.plan.cgroup_limits import ORIGIN, PERIOD_US, cpu_weight
from knarr.plan.step import key, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knarr.oci.spec import BlockIO, Cpu, DeviceRule, Memory, Resources

Property = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

UNLIMITED = (1 << 64) - 1
_QUOTA_STEP_US = 10_000  # systemd keeps a quota in steps of one per cent of a second


def limit_properties(resources: Resources, *, v1: bool = False) -> tuple[Property, ...]:
    """`v1`: the machine's controllers are on cgroup v1, whose limits have other names.

    Raises `UsageError`, `HostError` for what is no limit.
    """
    found: list[Property] = []
    if resources.memory:
        found += _memory_v1(resources.memory) if v1 else _memory(resources.memory)
    if resources.cpu:
        found += _cpu(resources.cpu, v1)
    if resources.pids and resources.pids.limit is not None:
        limit = resources.pids.limit
        found.append(("TasksMax", ("t", UNLIMITED if limit <= 0 else limit)))
    if resources.block_io:
        found += _block_io_v1(resources.block_io) if v1 else _block_io(resources.block_io)
    if not v1:
        found += _unified(resources.unified)
    return tuple(dict(found).items())  # the last of a name holds, as with files that are written twice


def _memory(memory: Memory) -> Iterator[Property]:
    if memory.limit:
        yield "MemoryMax", ("t", _bytes(memory.limit))
    if memory.reservation:
        yield "MemoryLow", ("t", _bytes(memory.reservation))
    if memory.swap and (memory.swap < 0 or (memory.limit or 0) > 0):
        # The specification counts memory and swap together, systemd swap alone.
        swap = UNLIMITED if memory.swap < 0 else max(0, memory.swap - (memory.limit or 0))
        yield "MemorySwapMax", ("t", swap)
    elif memory.swap == 0 and memory.limit is None:
        yield "MemorySwapMax", ("t", 0)  # as crun reads it
    elif not memory.swap and memory.limit == -1:
        yield "MemorySwapMax", ("t", UNLIMITED)


def _memory_v1(memory: Memory) -> Iterator[Property]:
    if memory.limit:
        yield "MemoryLimit", ("t", _bytes(memory.limit))


def _bytes(limit: int) -> int:
    return UNLIMITED if limit < 0 else limit


def _cpu(cpu: Cpu, v1: bool) -> Iterator[Property]:
    if cpu.shares:
        yield ("CPUShares", ("t", cpu.shares)) if v1 else ("CPUWeight", ("t", cpu_weight(cpu.shares)))
    if cpu.idle == 1 and not v1:
        yield "CPUWeight", ("t", 0)  # since systemd 252: cpu.idle
    if cpu.quota or cpu.period:
        yield from _quota(cpu.quota or 0, cpu.period or PERIOD_US)
    if cpu.cpus:
        yield "AllowedCPUs", ("ay", list_mask(cpu.cpus))
    if cpu.mems:
        yield "AllowedMemoryNodes", ("ay", list_mask(cpu.mems))


def _quota(quota: int, period: int) -> Iterator[Property]:
    per_second = UNLIMITED
    if quota > 0:
        per_second = quota * 1_000_000 // period
        per_second = -(-per_second // _QUOTA_STEP_US) * _QUOTA_STEP_US
    yield "CPUQuotaPerSecUSec", ("t", per_second)
    yield "CPUQuotaPeriodUSec", ("t", period)


_THROTTLES = (
    ("throttle_read_bps_device", "IOReadBandwidthMax", "BlockIOReadBandwidth"),
    ("throttle_write_bps_device", "IOWriteBandwidthMax", "BlockIOWriteBandwidth"),
    ("throttle_read_iops_device", "IOReadIOPSMax", ""),
    ("throttle_write_iops_device", "IOWriteIOPSMax", ""),
)


def _block_io(block: BlockIO) -> Iterator[Property]:
    if block.weight:
        yield "IOWeight", ("t", io_weight(block.weight))
    weights = [(_node(d.major, d.minor), io_weight(d.weight)) for d in block.weight_device if d.weight]
    if weights:
        yield "IODeviceWeight", ("a(st)", weights)
    for attribute, name, _ in _THROTTLES:
        rates = [(_node(d.major, d.minor), d.rate or UNLIMITED) for d in getattr(block, attribute)]
        if rates:
            yield name, ("a(st)", rates)


def _block_io_v1(block: BlockIO) -> Iterator[Property]:
    if block.weight:
        yield "BlockIOWeight", ("t", block.weight)
    for attribute, _, name in _THROTTLES:
        rates = [(_node(d.major, d.minor), d.rate or UNLIMITED) for d in getattr(block, attribute)]
        if name and rates:
            yield name, ("a(st)", rates)


def _node(major: int, minor: int) -> str:
    return f"/dev/block/{major}:{minor}"


_BYTES = {
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "memory.zswap.max": "MemoryZSwapMax",
    "pids.max": "TasksMax",
}
_MASKS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def _unified(unified: Mapping[str, str]) -> Iterator[Property]:
    for name, text in unified.items():
        value = text.strip()
        field = f"unified.{key(name)}"
        if name in _BYTES:
            yield _BYTES[name], ("t", UNLIMITED if value == "max" else _number(value, field))
        elif name in _MASKS and value:
            yield _MASKS[name], ("ay", list_mask(value))
        elif name == "cpu.weight":
            yield "CPUWeight", ("t", _number(value, field))
        elif name == "cpu.idle" and value == "1":
            yield "CPUWeight", ("t", 0)
        elif name == "cpu.max":
            quota, _, period = value.partition(" ")
            yield from _quota(
                0 if quota == "max" else _number(quota, field),
                _number(period.strip() or str(PERIOD_US), field),
            )
        elif name == "io.weight" and value.removeprefix("default ").isdecimal():
            yield "IOWeight", ("t", int(value.removeprefix("default ")))
        elif name == "memory.oom.group" and value in ("0", "1"):
            yield "OOMPolicy", ("s", "kill" if value == "1" else "continue")


def _number(text: str, field: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise UsageError(f"{ORIGIN}.{field}: {quoted(text)} is not a number")
    return int(text)


def list_mask(text: str) -> bytes:
    """`0-2,8` as a mask of bytes, the lowest first. Raises `HostError`."""
    mask = 0
    for part in text.replace(" ", "").strip(",").split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal()) or len(last) > 5:
            raise HostError(f"{text!r} is not a list of cpus or memory nodes")
        for number in range(int(first), int(last) + 1):
            mask |= 1 << number
    return mask.to_bytes(max(1, -(-mask.bit_length() // 8)), "little")


def device_properties(
    rules: Sequence[DeviceRule], groups: Mapping[tuple[str, int], str], *, v1: bool = False
) -> tuple[Property, ...]:
    """The rules as systemd knows them: what is allowed, everything else not. It has no exceptions from what is allowed:
    those are in our own list or program, and a device is open only to what both allow. `groups` are the names of
    /proc/devices by (type, major).

    On v1 the next reload of the manager would allow all devices without these. On v2 a rule that systemd cannot say
    leaves the matter to our program, which does not go away.
    """
    if rules and not allows_all(rules):
        rules = (*rules, *ALWAYS)
    allowed: list[tuple[str, str]] = []
    strict = sayable = False
    for rule in rules:
        if rule.type == "a" and set(rule.access) == set("rwm"):
            strict, sayable = not rule.allow, True
            allowed = []
        elif rule.allow:
            names = [
                _device(rule._replace(type=t), groups) for t in ("bc" if rule.type == "a" else rule.type)
            ]
            allowed += [(name, rule.access) for name in names if name]
            sayable = sayable and all(names)
    if not strict or not (sayable or v1):
        return (("DevicePolicy", ("s", "auto")), ("DeviceAllow", ("a(ss)", ())))
    return (("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", tuple(dict.fromkeys(allowed)))))


def _device(rule: DeviceRule, groups: Mapping[tuple[str, int], str]) -> str:
    kind = "block" if rule.type == "b" else "char"
    major, minor = ((n if n is not None and n >= 0 else None) for n in (rule.major, rule.minor))
    if major is None:
        return f"{kind}-*"  # also where a minor number is given, which systemd cannot say: ours is stricter
    if minor is None:
        return f"{kind}-{groups[kind, major]}" if (kind, major) in groups else ""
    return f"/dev/{kind}/{major}:{minor}"
