"""A container's place where systemd owns the tree: a transient scope with two leaves that are ours.

    <slice>/knarr-ID.scope/            systemd's unit, delegated to us: it gives controllers and holds no process
        container/                     the container; every limit asked for is a file in here
        monitor/                       the container's monitor: a limit of the container is not one of it

The monitor is in the scope, so that a detached container does not end with the service or session that started it,
and the scope lives exactly as long as the monitor. Limits are written inside the delegated part and not given as
the unit's properties: systemd then never writes them anew, and the monitor is not counted.
"""

from __future__ import annotations

from knarr.plan.cgroup import OURS, WATCHED, CgroupPlacement
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.plan.facts import HostFacts

# What `Delegate=yes` hands out of the controllers there are (systemd.resource-control(5)).
DELEGATED = ("cpuset", "cpu", "io", "memory", "pids")
SYSTEM_SLICE = "machine.slice"  # where containers and virtual machines are (systemd.special(7))
USER_SLICE = "user.slice"


class Manager(Record):
    """A systemd that makes scopes for us: the system's, or the user's own."""

    root: str  # its own cgroup, below the mount: "" or "/user.slice/user-1000.slice/user@1000.service"
    controllers: tuple[str, ...]  # that its units can have


def scope_placement(
    facts: HostFacts, container_id: str, manager: Manager, slice_name: str, needed: frozenset[str]
) -> CgroupPlacement:
    """The place in a scope of `slice_name`. Its directories are known beforehand; systemd makes them."""
    mount = facts.cgroup_v2.mount if facts.cgroup_v2 else "/sys/fs/cgroup"
    name = f"knarr-{container_id}.scope"
    top = f"{mount}{manager.root}{slice_path(slice_name)}/{name}"
    wanted = needed.union(WATCHED)
    return CgroupPlacement(
        v2=f"{top}/container",
        v2_controllers=tuple(c for c in manager.controllers if c in wanted),
        v2_give=(top,),
        devices=not facts.rootless,
        ours=f"{top}/{OURS}",
        scope=name,
        slice=slice_name,
    )


def slice_path(name: str) -> str:
    """`a-b.slice` lies in `/a.slice/a-b.slice` (systemd.slice(5)); `-.slice` is the root."""
    stem = name.removesuffix(".slice")
    if stem == "-":
        return ""
    words = stem.split("-")
    return "".join(f"/{'-'.join(words[: i + 1])}.slice" for i in range(len(words)))


def slice_of(own: str, root: str) -> str:
    """The innermost slice of the manager at `root` that a cgroup lies in, "" when it is none of that manager's."""
    if own != root and not own.startswith(f"{root}/"):
        return ""
    found = "-.slice"
    for name in own[len(root) :].split("/")[1:]:
        if not name.endswith(".slice"):
            break
        found = name
    return found
