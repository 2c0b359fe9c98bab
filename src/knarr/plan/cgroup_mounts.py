"""A mount of type `cgroup` inside a container: what /sys/fs/cgroup looks like in there.

v2: the unified hierarchy. With a cgroup namespace its root is the container's own cgroup. Without one the host's whole
tree shows, as `/proc/self/cgroup` then names paths in it.
v1 and hybrid: a tmpfs with one bind per hierarchy that the container has a cgroup in, so that nothing above it shows;
links for hierarchies with several controllers (`cpu -> cpu,cpuacct`).
"""

from __future__ import annotations

from knarr.plan.mount_options import RDONLY
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.plan.mount_options import Options
    from knarr.plan.namespaces import Namespaces


def cgroup_mount_steps(
    target: str,
    options: Options,
    origin: str,
    ns: Namespaces,
    cgroup: CgroupPlacement | None,
    facts: HostFacts,
) -> Iterator[Step]:
    attr = options.attr_set | options.rec_set
    if not facts.cgroups_v1:
        yield from _unified(target, attr, ",".join(options.data), origin, ns, facts)
        return
    # Writable until the links are made; then read-only if that was asked.
    yield Step("mount", ("tmpfs", "cgroup", target, f"{attr & ~RDONLY:#x}", "mode=755"), origin)
    for place in cgroup.v1 if cgroup else ():
        name = next(
            h.mount.rpartition("/")[2] for h in facts.cgroups_v1 if h.controllers == place.controllers
        )
        yield _bind(place.directory, f"{target}/{name}", attr, origin)
        for controller in place.controllers:
            controller = controller.removeprefix("name=")
            if controller != name:
                yield Step("make-link", (f"{target}/{controller}", name), origin)
    if cgroup and cgroup.v2:
        yield _bind(cgroup.v2, f"{target}/unified", attr, origin)
    if attr & RDONLY:
        yield Step("remount", (target, f"{RDONLY:#x}", "0x0", "0"), origin)


def _unified(
    target: str, attr: int, data: str, origin: str, ns: Namespaces, facts: HostFacts
) -> Iterator[Step]:
    """Mounting cgroup2 needs rights over the cgroup namespace; in a user namespace that only is so for an own one."""
    if "cgroup" in ns.new or not ("user" in ns.new or facts.rootless):
        yield Step("mount", ("cgroup2", "cgroup", target, f"{attr:#x}", data), origin)
    else:
        mount = facts.cgroup_v2.mount if facts.cgroup_v2 else "/sys/fs/cgroup"
        yield Step("bind", (mount, target, "dir", "1", f"{attr:#x}", "0x0", "0x0", "0x0", "0x0"), origin)


def _bind(source: str, target: str, attr: int, origin: str) -> Step:
    return Step("bind", (source, target, "dir", "0", f"{attr:#x}", "0x0", "0x0", "0x0", "0x0"), origin)
