"""How the kernel schedules the process and its memory: scheduler, I/O priority, CPU affinity, NUMA policy, personality.

config.md, Linux Process; config-linux.md, Memory policy and Personality. Imported when a container asks for any of it.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from knarr.oci.spec import IoPriority, Linux, MemoryPolicy, Personality, Process, Scheduler

POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
POLICY_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
REALTIME = ("SCHED_FIFO", "SCHED_RR")
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}

# linux/mempolicy.h
MEMORY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MEMORY_FLAGS = {
    "MPOL_F_STATIC_NODES": 1 << 15,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_NUMA_BALANCING": 1 << 13,
}
WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
MAY_BALANCE = ("MPOL_BIND", "MPOL_PREFERRED_MANY")
PERSONALITIES = {"LINUX": 0x0, "LINUX32": 0x8}
MOST_NODES, MOST_CPUS = 1024, 8192  # as many as fit into the executor's masks


def scheduling_steps(process: Process, linux: Linux) -> Iterator[Step]:
    if process.scheduler:
        yield _scheduler(process.scheduler)
    if process.io_priority:
        yield _io_priority(process.io_priority)
    if linux.memory_policy:
        yield _memory_policy(linux.memory_policy)
    if linux.personality:
        yield _personality(linux.personality)


def _scheduler(s: Scheduler) -> Step:
    origin = "process.scheduler"
    if s.policy not in POLICIES:
        raise UsageError(
            f"{origin}.policy: unknown policy {quoted(s.policy)}", hint=f"one of {' '.join(POLICIES)}"
        )
    for name, value in (("runtime", s.runtime), ("deadline", s.deadline), ("period", s.period)):
        if value is not None and not 0 <= value < 1 << 63:
            raise UsageError(f"{origin}.{name}: {value} is not a time in nanoseconds")
    if s.nice is not None and not -20 <= s.nice <= 19:
        raise UsageError(f"{origin}.nice: {s.nice} is not between -20 and 19")
    if s.policy in REALTIME and not 1 <= (s.priority or 0) <= 99:
        raise UsageError(
            f"{origin}.priority: {s.priority or 0} is not between 1 and 99, as {s.policy} has it"
        )
    if s.policy == "SCHED_DEADLINE":
        _check_deadline(s, origin)
    flags = _bits(s.flags, POLICY_FLAGS, f"{origin}.flags")
    numbers = (POLICIES[s.policy], flags, s.nice, s.priority, s.runtime, s.deadline, s.period)
    return Step("scheduler", tuple(str(n or 0) for n in numbers), origin)


def _check_deadline(s: Scheduler, origin: str) -> None:
    """sched(7): runtime <= deadline <= period; a period of 0 is the deadline."""
    for name, value in (("runtime", s.runtime), ("deadline", s.deadline)):
        if not value:
            raise UsageError(f"{origin}.{name}: is required for SCHED_DEADLINE, and above 0")
    if s.runtime and s.deadline and s.runtime > s.deadline:
        raise UsageError(f"{origin}.runtime: {s.runtime} is longer than the deadline {s.deadline}")
    if s.period and s.deadline and s.deadline > s.period:
        raise UsageError(f"{origin}.deadline: {s.deadline} is longer than the period {s.period}")


def _io_priority(io: IoPriority) -> Step:
    origin = "process.ioPriority"
    if io.class_ not in IO_CLASSES:
        raise UsageError(
            f"{origin}.class: unknown class {quoted(io.class_)}", hint=f"one of {' '.join(IO_CLASSES)}"
        )
    if not 0 <= io.priority <= 7:
        raise UsageError(f"{origin}.priority: {io.priority} is not between 0 and 7")
    return Step("ioprio", (str(IO_CLASSES[io.class_]), str(io.priority)), origin)


def affinity_step(cpus: str, field: str) -> Step:
    origin = f"process.execCPUAffinity.{field}"
    check_list(cpus, MOST_CPUS, origin)
    return Step("affinity", (cpus,), origin)


def _memory_policy(policy: MemoryPolicy) -> Step:
    """set_mempolicy(2)."""
    origin, mode = "linux.memoryPolicy", policy.mode
    if mode not in MEMORY_MODES:
        raise UsageError(
            f"{origin}.mode: unknown mode {quoted(mode)}", hint=f"one of {' '.join(MEMORY_MODES)}"
        )
    flags = _bits(policy.flags, MEMORY_FLAGS, f"{origin}.flags")
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= set(policy.flags):
        raise UsageError(f"{origin}.flags: nodes are either static or relative")
    if "MPOL_F_NUMA_BALANCING" in policy.flags and mode not in MAY_BALANCE:
        raise UsageError(
            f"{origin}.flags: MPOL_F_NUMA_BALANCING is for {' and '.join(MAY_BALANCE)}, not {mode}"
        )
    if mode in WITHOUT_NODES:
        if policy.nodes:
            raise UsageError(f"{origin}.nodes: {mode} has none")
        if flags:
            raise UsageError(f"{origin}.flags: {mode} has none")
    elif policy.nodes:
        check_list(policy.nodes, MOST_NODES, f"{origin}.nodes")
    elif mode != "MPOL_PREFERRED" or flags:  # preferred without nodes means: the local one
        raise UsageError(f"{origin}.nodes: {mode} needs at least one node")
    return Step("mempolicy", (str(MEMORY_MODES[mode] | flags), policy.nodes), origin)


def _personality(asked: Personality) -> Step:
    origin = "linux.personality"
    if asked.domain not in PERSONALITIES:
        raise UsageError(f"{origin}.domain: unknown domain {quoted(asked.domain)}", hint="LINUX or LINUX32")
    if asked.flags:
        raise UsageError(f"{origin}.flags: none is defined")
    return Step("personality", (f"{PERSONALITIES[asked.domain]:#x}",), origin)


def _bits(names: Sequence[str], known: Mapping[str, int], origin: str) -> int:
    bits = 0
    for i, name in enumerate(names):
        if name not in known:
            raise UsageError(f"{origin}[{i}]: unknown flag {quoted(name)}", hint=f"one of {' '.join(known)}")
        bits |= known[name]
    return bits


def check_list(text: str, most: int, origin: str) -> None:
    """`0-3,7`, as cpuset(7) has it."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers = (first, last) if dash else (first,)
        if not all(n.isascii() and n.isdecimal() and len(n) < 10 for n in numbers):
            raise UsageError(f"{origin}: {quoted(text)} is not a list like 0-3,7")
        if (dash and int(first) > int(last)) or int(numbers[-1]) >= most:
            raise UsageError(f"{origin}: {quoted(part)} is not a range below {most}")
