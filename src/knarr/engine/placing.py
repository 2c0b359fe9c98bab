"""Which cgroup a container gets on this machine, and systemd's part in making it.

`knarr.plan.cgroup` says what the places are. Here is seen which of them can be had: who else is in our own cgroup,
and whether a systemd is there to be asked. Nothing is made or moved before the plan that undoes it is on disk.
"""

from __future__ import annotations

import os

from knarr.errors import HostError
from knarr.plan import cgroup
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Resources
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.cgroup_scope import Manager
    from knarr.plan.facts import CgroupV2, HostFacts


class Placed(Record):
    place: CgroupPlacement
    warnings: tuple[str, ...] = ()


def place(
    facts: HostFacts,
    container_id: str,
    resources: Resources,
    *,
    parent: str = "",
    foreground: bool = False,
    every: bool = False,
) -> Placed:
    """The container's place. `parent` is `--cgroup-parent`: a path, or a slice of systemd; `every`: in all hierarchies.
    Changes nothing."""
    path = f"{parent.rstrip('/')}/{container_id}" if parent else ""
    v2 = facts.cgroup_v2
    alone = False
    if v2 is not None and not facts.cgroups_v1 and not (path and not _slice(parent)):
        needed = cgroup.controllers_needed(resources)
        if not foreground or path or (needed and not (v2.own == "/" and v2.whole)):
            # A detached container would keep our cgroup closed to others for as long as it lives.
            alone = foreground and not path and _may_step_aside(facts, v2)
            if not alone:
                manager = _manager(facts, v2)
                if manager is not None:
                    return _in_scope(facts, v2, container_id, resources, manager, parent, foreground, every)
    at = cgroup.placement(
        facts, container_id, path=path, foreground=foreground, resources=resources, alone=alone, every=every
    )
    if foreground and v2 is not None and at.v2 and not at.v2.startswith(v2.mount + v2.own):
        return Placed(at, tuple(_not_held(v2, at.v2, resources)))
    return Placed(at)


def _slice(parent: str) -> str:
    name = parent.rstrip("/").rpartition("/")[2]
    return name if name.endswith(".slice") and len(name) > len(".slice") else ""


def _may_step_aside(facts: HostFacts, v2: CgroupV2) -> bool:
    if not v2.own_writable:
        return False
    from knarr.host.cgroups import alone_in, delegated

    own = v2.mount + v2.own.rstrip("/")
    if facts.systemd and own.endswith(".service") and not delegated(own):
        return False  # its ExecStop=, ExecReload=, ExecStartPost= start in this very cgroup, and could not any more
    return alone_in(own)


def _manager(facts: HostFacts, v2: CgroupV2) -> Manager | None:
    """The systemd that makes our scopes, if one can be asked."""
    if not facts.systemd or not facts.initial_userns or not v2.whole:
        return None  # in a container the paths that systemd says are not those we see
    from knarr.host.systemd import reachable
    from knarr.plan.cgroup_scope import DELEGATED, Manager

    if not reachable(user=facts.rootless):
        return None
    if not facts.rootless:
        return Manager("", tuple(c for c in v2.controllers if c in DELEGATED))
    root = f"/user.slice/user-{facts.euid}.slice/user@{facts.euid}.service"
    try:
        with open(f"{v2.mount}{root}/cgroup.controllers", encoding="ascii") as file:
            return Manager(root, tuple(c for c in file.read().split() if c in DELEGATED))
    except OSError:
        return None


def _in_scope(
    facts: HostFacts,
    v2: CgroupV2,
    container_id: str,
    resources: Resources,
    manager: Manager,
    parent: str,
    foreground: bool,
    every: bool,
) -> Placed:
    from knarr.plan.cgroup_scope import SYSTEM_SLICE, USER_SLICE, scope_placement, slice_of

    name = _slice(parent)
    if not name and foreground:
        name = slice_of(v2.own, manager.root)  # what limits the caller's slice limits the container
    if not name:
        name = USER_SLICE if facts.rootless else SYSTEM_SLICE
    needed = cgroup.controllers_needed(resources).union(manager.controllers if every else ())
    at = scope_placement(facts, container_id, manager, name, needed)
    return Placed(at, tuple(_not_held(v2, at.v2, resources)) if foreground and not parent else ())


def _not_held(v2: CgroupV2, directory: str, resources: Resources) -> Iterator[str]:
    """The limits of the caller that the container is not below, as warnings."""
    from knarr.host.cgroups import limits

    memory, pids = resources.memory and resources.memory.limit, resources.pids and resources.pids.limit
    stricter = {"memory.max": memory or 0, "pids.max": pids or 0}
    own = v2.own.rstrip("/")
    why = "other processes are in that cgroup, so it cannot give controllers to the container's"
    if own.endswith(".service"):
        why = "give the unit `Delegate=yes`, and let it do nothing but `knarr run`"
    while own and not directory.startswith(f"{v2.mount}{own}/"):
        for name, value in limits(v2.mount + own).items():
            if not (value.isdecimal() and 0 < stricter.get(name, 0) <= int(value)):
                yield f"{name} {value} of {own} does not limit this container: {why}"
        own = own.rpartition("/")[0]


def step_aside(at: CgroupPlacement) -> None:
    """Leave our own cgroup for the leaf; the tear-down plan brings us back. Raises `HostError`."""
    if not at.origin:
        return
    try:
        for directory in (*at.v2_parents, at.ours):
            os.makedirs(directory, 0o755, exist_ok=True)
        _enter(at.ours, 0)
    except OSError as e:
        raise HostError(f"cannot make cgroup {at.ours}: {(e.strerror or str(e)).lower()}") from e


def make_scope(at: CgroupPlacement, setter: int, stop_timeout_s: float | None, *, rootless: bool) -> None:
    """Have systemd make the scope, with the setter and its parent, the monitor, in it; then put them in their leaf."""
    from knarr.host.bus import connect
    from knarr.host.systemd import Scope, start_scope

    pids = (_parent(setter), setter)
    scope = Scope(at.scope, pids, at.slice, stop_timeout_s=10.0 if stop_timeout_s is None else stop_timeout_s)
    with connect(user=rootless) as bus:
        made = start_scope(bus, scope)
    try:
        os.mkdir(at.ours, 0o755)
        for pid in pids:
            _enter(at.ours, pid)
    except OSError as e:
        raise HostError(f"cannot use systemd's cgroup {made}: {(e.strerror or str(e)).lower()}") from e


def far_from(at: CgroupPlacement, v2: CgroupV2 | None) -> bool:
    """May this process not start others in the container's cgroup: a user whose session is not below what is theirs.

    The kernel wants write access to `cgroup.procs` of the cgroup that is above both (cgroups(7), delegation).
    Raises `HostError` where no systemd can bring it there.
    """
    if not at.v2 or v2 is None or v2.own.startswith("/.."):
        return False  # the last: an own cgroup out of sight, and the kernel will say
    above = os.path.commonpath((at.v2, v2.mount + v2.own))
    if os.access(f"{above}/cgroup.procs", os.W_OK):
        return False
    if not at.scope:
        raise HostError(
            f"from cgroup {v2.own} you may not enter the container's, {at.v2.removeprefix(v2.mount)}: "
            f"{above}/cgroup.procs is not yours to write",
            hint="run the command where the container was started, or have root bring this shell there: "
            f"`echo {os.getppid()} >{os.path.dirname(at.v2)}/cgroup.procs`",
        )
    return True


def come_near(at: CgroupPlacement, *pids: int, rootless: bool) -> None:
    """Have systemd move processes of ours to the leaf beside the container's. Raises `HostError`."""
    from knarr.host.bus import connect
    from knarr.host.systemd import attach

    with connect(user=rootless) as bus:
        attach(bus, at.scope, f"/{cgroup.OURS}", pids)


def with_parent(pid: int) -> tuple[int, int]:
    """A setter and the monitor it is a child of."""
    return _parent(pid), pid


def entrance(at: CgroupPlacement, process: str) -> CgroupPlacement:
    """Where another process of the container may start. `process` is its first one's directory in /proc."""
    from knarr.host.cgroups import entrance

    return at._replace(v2=entrance(at.v2, process)) if at.v2 else at


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def _enter(directory: str, pid: int) -> None:
    fd = os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)
