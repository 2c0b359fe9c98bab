"""A container's processes as a transient scope of systemd, which owns the cgroups where it runs.

A scope is a cgroup that systemd made and has delegated to us: it neither moves our processes nor removes what is in
it, and what is below is ours to arrange (systemd.resource-control(5), `Delegate=`). Limits of the scope itself are
given to systemd, or it would write its own values over ours at the next reload; those below it are written by us.
"""

from __future__ import annotations

import os

from knarr.errors import HostError
from knarr.host.bus import MANAGER, MANAGER_PATH, BusError, sockets
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from knarr.plan.unit_limits import Property

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


_START_S = 30.0


class Scope(Record):
    """What is asked for. `pids` must not be empty: a scope lives as long as a process is in it."""

    name: str  # "knarr-<id>.scope"
    pids: tuple[int, ...]
    slice: str = ""  # systemd's default: system.slice, or the user's app.slice
    description: str = ""
    others: tuple[Property, ...] = ()  # win over those below that everybody gets
    limits: tuple[Property, ...] = ()  # those that this systemd does not know are left out
    stop_timeout_s: float | None = 10.0  # between systemd's SIGTERM and SIGKILL; None: systemd's own
    ours: bool = True  # nobody else makes units of this name: one that is there is a leftover


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
    while True:
        nothing: list[object] = []
        body = (scope.name, "fail", list(properties(scope)), nothing)
        try:
            return str(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)[0])
        except BusError as e:
            known = _without_unknown(scope.limits, e)
            if len(known) < len(scope.limits):
                scope = scope._replace(limits=known)
                continue
            if e.name != f"{MANAGER}.UnitExists":
                raise
        # One of that name that failed, or whose processes were killed a moment ago, and nobody has cleared away.
        if scope.ours:
            stop_scope(bus, scope.name)
        else:
            _forget_failed(bus, scope.name)
        return str(bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)[0])


def _without_unknown(limits: tuple[Property, ...], e: BusError) -> tuple[Property, ...]:
    """Without the limit that this systemd is too old for: "Cannot set property X, or unknown property." """
    name = e.text.removeprefix("Cannot set property ").partition(",")[0]
    return tuple(limit for limit in limits if limit[0] != name)


def properties(scope: Scope) -> Sequence[Property]:
    """The properties of a transient scope. Pure."""
    found: dict[str, tuple[str, object]] = {
        "Description": ("s", scope.description or f"knarr container {scope.name}"),
        "PIDs": ("au", list(scope.pids)),
        "Delegate": ("b", True),
        # A container that was killed leaves no failed unit behind that keeps its name.
        "CollectMode": ("s", "inactive-or-failed"),
    }
    if scope.stop_timeout_s is not None:
        # A scope waits for nothing at boot; at shutdown it is stopped before the machine's own parts go away.
        found["TimeoutStopUSec"] = ("t", int(scope.stop_timeout_s * 1_000_000))
    if scope.slice:
        found["Slice"] = ("s", scope.slice)
    found.update(scope.others)
    return [*found.items(), *scope.limits]


def set_limits(bus: Manager, name: str, limits: Sequence[Property]) -> None:
    """Change the limits of a running scope until it ends. Raises `HostError`."""
    limits = tuple(limits)
    while limits:
        try:
            bus.manager("SetUnitProperties", "sba(sv)", (name, True, list(limits)))
            return
        except BusError as e:
            known = _without_unknown(limits, e)
            if len(known) == len(limits):
                raise _translated(f"cannot change {name}", e) from e
            limits = known
        except OSError as e:
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


def manager_cgroup(bus: Manager) -> str:
    """The cgroup that a manager's units are below: "" for the system's. Raises `BusError`."""
    asked = (f"{MANAGER}.Manager", "ControlGroup")
    ((_, value),) = bus.call(MANAGER, MANAGER_PATH, "org.freedesktop.DBus.Properties", "Get", "ss", asked)
    return str(value).rstrip("/")


def stop_scope(bus: Manager, name: str) -> None:
    """End a scope, its processes, and a failed one's memory. Absent is fine. Raises `BusError` for anything else."""
    try:
        (job,) = bus.manager("StopUnit", "ss", (name, "replace"))
        bus.job_result(str(job), _START_S)
    except BusError as e:
        if e.name != f"{MANAGER}.NoSuchUnit":
            raise
    _forget_failed(bus, name)


def _forget_failed(bus: Manager, name: str) -> None:
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
