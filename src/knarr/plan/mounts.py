"""The spec's mounts as steps, in the spec's order (config.md, Mounts).

Nothing is looked up here: a destination is a path inside the root that the executor resolves beneath it,
so a symbolic link in an image can send a mount elsewhere in the container but never out of it.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.idmap import check_maps, map_triples
from knarr.plan.mount_options import RDONLY, read_options
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Mount, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts
    from knarr.plan.mount_options import Options
    from knarr.plan.namespaces import Namespaces

# Filesystems of which `ro` need not be told: they keep one superblock for everybody, or have nothing to write to.
VIRTUAL = frozenset(
    (
        "proc",
        "sysfs",
        "tmpfs",
        "devpts",
        "mqueue",
        "cgroup",
        "cgroup2",
        "ramfs",
        "devtmpfs",
        "securityfs",
        "debugfs",
    )
)


def mount_steps(
    spec: Spec, ns: Namespaces, cgroup: CgroupPlacement | None, facts: HostFacts, bundle: str
) -> Iterator[Step]:
    for i, mount in enumerate(spec.mounts):
        yield from _mount(mount, f"mounts[{i}]", spec, ns, cgroup, facts, bundle)


def _mount(
    mount: Mount,
    origin: str,
    spec: Spec,
    ns: Namespaces,
    cgroup: CgroupPlacement | None,
    facts: HostFacts,
    bundle: str,
) -> Iterator[Step]:
    target = in_root(mount.destination, f"{origin}.destination")
    options = read_options(mount.options, origin)
    if options.remount:
        yield _remount(target, options, origin)
    elif options.bind or mount.type == "bind":
        yield bind_step(mount, target, options, origin, spec, bundle)
        return  # its propagation is set before it becomes visible
    elif mount.type in ("cgroup", "cgroup2"):
        from knarr.plan.cgroup_mounts import cgroup_mount_steps  # not every container has one

        yield from cgroup_mount_steps(target, options, origin, ns, cgroup, facts)
    elif not mount.type:
        raise UsageError(f"{origin}.type: is required for a mount that is not a bind")
    else:
        if options.copy_up:
            if mount.type != "tmpfs":
                raise UsageError(f"{origin}.options: tmpcopyup is for tmpfs, not {mount.type}")
            yield Step("copy-up", (target,), origin)
        yield new_filesystem(mount, target, options, origin)
    if options.propagation:
        yield Step("attach-propagation", (target, f"{options.propagation:#x}"), origin)


def new_filesystem(mount: Mount, target: str, options: Options, origin: str) -> Step:
    if options.idmap or mount.uid_mappings or mount.gid_mappings:
        raise UsageError(f"{origin}.options: only a bind mount can be ID-mapped, not {mount.type}")
    data = options.superblock + options.data
    attr = options.attr_set | options.rec_set
    if attr & RDONLY and mount.type not in VIRTUAL:
        data = ("ro", *data)  # a block device that is write-protected, or a journal that must not be replayed
    return Step(
        "mount", (mount.type, mount.source or mount.type, target, f"{attr:#x}", ",".join(data)), origin
    )


def bind_step(mount: Mount, target: str, options: Options, origin: str, spec: Spec, bundle: str) -> Step:
    """Data words have no meaning for a bind, and mount(2) ignores them too."""
    if not mount.source:
        raise UsageError(f"{origin}.source: is required for a bind mount")
    args = (
        host_path(mount.source, bundle), target, "auto", "01"[options.recursive],
        f"{options.attr_set:#x}", f"{options.attr_clear:#x}", f"{options.rec_set:#x}", f"{options.rec_clear:#x}",
        f"{options.propagation:#x}",
    )  # fmt: skip
    if not (options.idmap or mount.uid_mappings or mount.gid_mappings):
        return Step("bind", args, origin)
    # An ID-mapped mount without maps of its own takes the container's (config.md, `idmap`).
    uids = mount.uid_mappings or spec.linux.uid_mappings
    gids = mount.gid_mappings or spec.linux.gid_mappings
    check_maps(uids, f"{origin}.uidMappings")
    check_maps(gids, f"{origin}.gidMappings")
    recursive = "01"[options.idmap_recursive]
    return Step("idmap-bind", (*args, map_triples(uids), map_triples(gids), recursive), origin)


def _remount(target: str, options: Options, origin: str) -> Step:
    on, off, recursive = options.attr_set, options.attr_clear, "0"
    if options.rec_set or options.rec_clear:
        on, off, recursive = on | options.rec_set, off | options.rec_clear, "1"
    return Step("remount", (target, f"{on:#x}", f"{off:#x}", recursive), origin)


def in_root(path: str, origin: str) -> str:
    """A path inside the container: absolute, without doubled slashes. `..` is the executor's to resolve."""
    if not path:
        raise UsageError(f"{origin}: is empty")
    if path[0] != "/":
        # Relative was allowed before specification 1.0.2-dev and means: from the root.
        path = f"/{path}"
    while "//" in path:
        path = path.replace("//", "/")
    return path.rstrip("/") or "/"


def host_path(path: str, bundle: str) -> str:
    """A relative source is relative to the bundle (config.md)."""
    if path[:1] == "/" or not bundle:
        return path
    return f"{bundle.rstrip('/')}/{path}"
