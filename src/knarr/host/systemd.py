"""A container's processes as a transient scope of systemd, which owns the cgroups where it runs.

A scope is a cgroup that systemd made and has delegated to us: it neither moves our processes nor removes what is in
it, and what is below is ours to arrange (systemd.resource-control(5), `Delegate=`). Limits of the scope itself are
given to systemd, or it would write its own values over ours at the next reload; those below it are written by us.
"""

from __future__ import annotations

import os

from knarr.errors import HostError
from knarr.host.bus import MANAGER, BusError, sockets
from knarr.plan.cgroup_limits import cpu_weight
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from knarr.oci.spec import Resources

    class Manager(Protocol):
        """What is used of `knarr.host.bus.Bus`."""

        def manager(
            self, member: str, signature: str = "", body: tuple[Any, ...] = ()
        ) -> tuple[Any, ...]: ...
        def call(
            self,
            name: str,
            path: str,
            interface: str,
            member: str,
            signature: str = "",
            body: tuple[Any, ...] = (),
        ) -> tuple[Any, ...]: ...
        def job_result(self, job: str, timeout_s: float) -> str: ...


Property = tuple[str, tuple[str, object]]  # name, (D-Bus signature, value)

UNLIMITED = (1 << 64) - 1
_START_S = 30.0
_QUOTA_STEP_US = 10_000  # systemd keeps a quota in steps of one per cent of a second


class Scope(Record):
    """What is asked for. `pids` must not be empty: a scope lives as long as a process is in it."""

    name: str  # "knarr-<id>.scope"
    pids: tuple[int, ...]
    slice: str = ""  # systemd's default: system.slice, or the user's app.slice
    description: str = ""
    limits: tuple[Property, ...] = ()
    stop_timeout_s: float = 10.0  # between systemd's SIGTERM and SIGKILL, when it stops the scope by itself


def start_scope(bus: Manager, scope: Scope) -> str:
    """Move the processes into a new scope; its cgroup's path below the hierarchy's mount. Raises `HostError`."""
    try:
        job = _start(bus, scope)
        result = bus.job_result(job, _START_S)
        if result != "done":
            raise HostError(
                f"systemd did not start {scope.name}: {result or 'no answer'}",
                hint=f"see `systemctl status {scope.name}` and the journal",
            )
        return control_group(bus, scope.name)
    except (BusError, OSError) as e:
        raise _translated(f"cannot start {scope.name}", e) from e


def _start(bus: Manager, scope: Scope) -> str:
    nothing: list[object] = []
    body = (scope.name, "fail", list(properties(scope)), nothing)
    try:
        return str(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)[0])
    except BusError as e:
        if e.name != f"{MANAGER}.UnitExists":
            raise
    # One of that name that failed, or whose processes were killed a moment ago, and that nobody has cleared away.
    stop_scope(bus, scope.name)
    return str(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)[0])


def properties(scope: Scope) -> Sequence[Property]:
    """The properties of a transient scope. Pure."""
    found: list[Property] = [
        ("Description", ("s", scope.description or f"knarr container {scope.name}")),
        ("PIDs", ("au", list(scope.pids))),
        ("Delegate", ("b", True)),
        # A container that was killed leaves no failed unit behind that keeps its name.
        ("CollectMode", ("s", "inactive-or-failed")),
        # A scope waits for nothing at boot; at shutdown it is stopped before the machine's own parts go away.
        ("TimeoutStopUSec", ("t", int(scope.stop_timeout_s * 1_000_000))),
    ]
    if scope.slice:
        found.append(("Slice", ("s", scope.slice)))
    return [*found, *scope.limits]


def limit_properties(resources: Resources) -> tuple[Property, ...]:
    """A container's limits (config-linux.md, Control groups) as systemd knows them on cgroup v2. Pure."""
    found: list[Property] = []
    if memory := resources.memory:
        if memory.limit:
            found.append(("MemoryMax", ("t", _bytes(memory.limit))))
        if memory.reservation:
            found.append(("MemoryLow", ("t", _bytes(memory.reservation))))
        if memory.swap and (memory.swap < 0 or (memory.limit or 0) > 0):
            # The specification counts memory and swap together, systemd swap alone.
            swap = UNLIMITED if memory.swap < 0 else max(0, memory.swap - (memory.limit or 0))
            found.append(("MemorySwapMax", ("t", swap)))
    if cpu := resources.cpu:
        if cpu.shares:
            found.append(("CPUWeight", ("t", cpu_weight(cpu.shares))))
        if cpu.quota and cpu.quota > 0:
            per_second = cpu.quota * 1_000_000 // (cpu.period or 100_000)
            found.append(("CPUQuotaPerSecUSec", ("t", -(-per_second // _QUOTA_STEP_US) * _QUOTA_STEP_US)))
        if cpu.period:
            found.append(("CPUQuotaPeriodUSec", ("t", cpu.period)))
        if cpu.cpus:
            found.append(("AllowedCPUs", ("ay", list_mask(cpu.cpus))))
        if cpu.mems:
            found.append(("AllowedMemoryNodes", ("ay", list_mask(cpu.mems))))
    if resources.pids and resources.pids.limit:
        limit = resources.pids.limit
        found.append(("TasksMax", ("t", UNLIMITED if limit < 0 else limit)))
    return tuple(found)


def _bytes(limit: int) -> int:
    return UNLIMITED if limit < 0 else limit


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


def set_limits(bus: Manager, name: str, limits: Sequence[Property]) -> None:
    """Change the limits of a running scope until it ends. Raises `HostError`."""
    try:
        bus.manager("SetUnitProperties", "sba(sv)", (name, True, list(limits)))
    except (BusError, OSError) as e:
        raise _translated(f"cannot change {name}", e) from e


def attach(bus: Manager, name: str, below: str, pids: Sequence[int]) -> None:
    """Move processes into a delegated unit, or the cgroup `below` ("/x") in it. Raises `HostError`.

    For what the kernel does not let a user do: a process of a login session is in a cgroup that is not the user's. The
    user's systemd asks the system's, which looks at the owner of process and unit (org.freedesktop.systemd1(5)).
    """
    try:
        bus.manager("AttachProcessesToUnit", "ssau", (name, below, list(pids)))
    except (BusError, OSError) as e:
        raise _translated(f"cannot enter {name}", e) from e


def reachable(*, user: bool) -> bool:
    """Is there a socket of such a manager. Cheap; whether it answers is seen when it is asked."""
    return any(os.path.exists(path) for path, _ in sockets(user=user, env=os.environ, uid=os.getuid()))


def control_group(bus: Manager, name: str) -> str:
    """The cgroup of a unit, as `/system.slice/knarr-1.scope`. Raises `BusError`."""
    (unit,) = bus.manager("GetUnit", "s", (name,))
    asked = (f"{MANAGER}.Scope", "ControlGroup")
    ((_, value),) = bus.call(MANAGER, unit, "org.freedesktop.DBus.Properties", "Get", "ss", asked)
    if not value:
        raise HostError(f"systemd has no cgroup for {name}")
    return str(value)


def stop_scope(bus: Manager, name: str) -> None:
    """End a scope, its processes, and a failed one's memory. Absent is fine. Raises `BusError` for anything else."""
    try:
        (job,) = bus.manager("StopUnit", "ss", (name, "replace"))
        bus.job_result(str(job), _START_S)
    except BusError as e:
        if e.name != f"{MANAGER}.NoSuchUnit":
            raise
    try:
        bus.manager("ResetFailedUnit", "s", (name,))
    except BusError as e:
        if e.name != f"{MANAGER}.NoSuchUnit":
            raise


def _translated(what: str, e: Exception) -> HostError:
    reason = (e.text if isinstance(e, BusError) else str(e)).rstrip(".")
    reason = reason[:1].lower() + reason[1:]
    hint = ""
    if isinstance(e, BusError) and e.name.endswith(("InteractiveAuthorizationRequired", "AccessDenied")):
        hint = "an ordinary user asks their own systemd: is it running? `systemctl --user status`"
    return HostError(f"{what}: {reason}", hint=hint)
