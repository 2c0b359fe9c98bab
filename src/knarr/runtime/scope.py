"""A container's scope of systemd: found a place, started with the setter in it, changed with the limits, and stopped.

What is asked of systemd is also written into the files: it knows not every limit, and rounds some.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, KnarrError
from knarr.host.bus import BusError, connect
from knarr.host.systemd import Scope, attach, manager_cgroup, reachable, set_limits, start_scope, stop_scope
from knarr.plan.cgroup import ORIGIN
from knarr.plan.cgroup_unit import unit_of, unit_placement
from knarr.plan.unit_annotations import annotated_properties
from knarr.plan.unit_limits import device_properties, limit_properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.spec import Resources, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.plan.unit_limits import Property

# As runc and crun have it: whoever manages containers stops them at shutdown, in its own order.
_OTHERS: tuple[Property, ...] = (
    ("DefaultDependencies", ("b", False)),
    ("CPUAccounting", ("b", True)),
    ("MemoryAccounting", ("b", True)),
    ("TasksAccounting", ("b", True)),
)
_PIDS = "TasksMax"


def place(facts: HostFacts, container_id: str, spec: Spec) -> CgroupPlacement:
    """Where systemd will put the container. Raises `UsageError`, and `HostError` where no systemd can be asked."""
    linux = spec.linux
    unit = unit_of(linux.cgroups_path, container_id, spec.annotations, rootless=facts.rootless)
    user = facts.rootless
    if not facts.systemd or not reachable(user=user):
        raise HostError(
            "--systemd-cgroup: systemd does not run on this machine"
            if not facts.systemd
            else f"--systemd-cgroup: {'your' if user else 'the'} systemd cannot be reached",
            hint="log in through pam_systemd, or `sudo loginctl enable-linger $USER`"
            if user and facts.systemd
            else "leave it out, and the cgroups are made without",
        )
    root = ""
    if user:
        if facts.cgroup_v2 is None or facts.cgroups_v1:
            raise HostError("--systemd-cgroup: without root it needs cgroup v2 alone, which can be delegated")
        root, controllers = _own_manager(facts)
        facts = facts._replace(cgroup_v2=facts.cgroup_v2._replace(own_controllers=controllers))
    return unit_placement(facts, container_id, unit, root, linux.resources)


def _own_manager(facts: HostFacts) -> tuple[str, tuple[str, ...]]:
    """Where the user's systemd is, and which controllers it was given."""
    mount = facts.cgroup_v2.mount if facts.cgroup_v2 else ""
    try:
        with connect(user=True) as bus:
            root = manager_cgroup(bus)
        with open(f"{mount}{root}/cgroup.controllers", encoding="ascii") as file:
            return root, tuple(file.read().split())
    except (BusError, OSError) as e:
        raise HostError(
            f"--systemd-cgroup: the user's systemd does not say where its cgroups are: {e}"
        ) from e


def start(at: CgroupPlacement, setter: int, container_id: str, spec: Spec, facts: HostFacts) -> None:
    """Have systemd make the scope with the setter in it. Raises `HostError`; there is no scope of ours then."""
    v1 = bool(at.v1)
    limits = limit_properties(spec.linux.resources, v1=_is_v1(at))
    limits = tuple(
        limit for limit in limits if limit[0] != _PIDS
    )  # the setter is one of them: see `limit_pids`
    if at.devices:
        limits += device_properties(
            spec.linux.resources.devices, _device_groups(), v1=bool(at.v1_of("devices"))
        )
    io = ("BlockIOAccounting" if v1 else "IOAccounting", ("b", True))
    scope = Scope(
        at.scope,
        (setter,),
        at.slice,
        description=f"knarr-runtime container {container_id}",
        others=(*_OTHERS, io, *annotated_properties(spec.annotations)),
        limits=limits,
        stop_timeout_s=None,
        ours=False,
    )
    with connect(user=facts.rootless) as bus:
        made = start_scope(bus, scope)
    expected = at.main
    if f"{made}/" not in f"{expected}/":
        raise HostError(
            f"{ORIGIN}: systemd put {at.scope} at {made}, and not at {expected}",
            hint="are its cgroups seen from a cgroup namespace of their own?",
        )
    below = at.v2.partition(f"{made}/")[2]
    if below:
        # Before its parent gives controllers away, which it cannot while a process is in it.
        os.makedirs(at.v2, 0o755, exist_ok=True)
        with open(f"{at.v2}/cgroup.procs", "w") as file:
            file.write(str(setter))


def _is_v1(at: CgroupPlacement) -> bool:
    """systemd has its controllers on v1, even where an empty version 2 is beside it."""
    return bool(at.v1_of("memory") or at.v1_of("cpu"))


def _device_groups() -> dict[tuple[str, int], str]:
    """The names of /proc/devices by (type, major)."""
    found = {}
    kind = "char"
    with open("/proc/devices", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            if line.startswith("Block"):
                kind = "block"
            elif len(words) == 2 and words[0].isdecimal():
                found[kind, int(words[0])] = words[1]
    return found


def limit_pids(at: CgroupPlacement, resources: Resources, *, user: bool) -> None:
    """The number of processes, once the set-up needs no more of them."""
    limits = [limit for limit in limit_properties(resources, v1=_is_v1(at)) if limit[0] == _PIDS]
    if limits:
        with connect(user=user) as bus:
            set_limits(bus, at.scope, limits)


def change(at: CgroupPlacement, resources: Resources, *, user: bool) -> None:
    """Other limits for a scope that is there. Raises `HostError`."""
    limits = limit_properties(resources, v1=_is_v1(at))
    if limits:
        with connect(user=user) as bus:
            set_limits(bus, at.scope, limits)


def bring_in(at: CgroupPlacement, pid: int) -> None:
    """Have the user's systemd move a process into the container's part of the scope: a login session's cgroup is not
    the user's, so the kernel does not let them."""
    below = at.v2.partition(f"/{at.scope}")[2]
    with connect(user=True) as bus:
        attach(bus, at.scope, below, (pid,))


def stop(at: CgroupPlacement, *, user: bool, warn: Callable[[str], None]) -> None:
    """The unit goes. Its processes are gone already, and mostly it is too."""
    try:
        with connect(user=user) as bus:
            stop_scope(bus, at.scope)
    except (BusError, KnarrError, OSError) as e:
        warn(f"systemd did not stop {at.scope}: {e}")
