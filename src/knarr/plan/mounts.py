"""The spec's mounts as steps, in the spec's order (config.md, Mounts).

Nothing is looked up here: a destination is a path inside the root that the executor resolves beneath it,
so a symbolic link in an image can send a mount elsewhere in the container but never out of it.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.capabilities import SYS_ADMIN
from knarr.plan.idmap import check_maps, map_triples
from knarr.plan.mount_options import MS_REC, MS_SLAVE, RDONLY, read_options
from knarr.plan.step import Step, quoted
from knarr.record import Record

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
# Filesystems that label their files themselves.
UNLABELLED = frozenset(("proc", "sysfs", "mqueue"))


# What a process in a user namespace may only mount when it also has that namespace, and where the host has it. Without,
# it gets the host's, as it then shares what these files are about.
OF_NAMESPACE = {"proc": ("pid", "/proc"), "sysfs": ("net", "/sys"), "mqueue": ("ipc", "/dev/mqueue")}


class Where(Record):
    """What the mounts of one container have in common. `exact`: a bind that names any attribute has no others of its
    source's, as runc and crun have it."""

    bundle: str
    cgroup: CgroupPlacement | None = None
    exact: bool = False


def mount_steps(spec: Spec, ns: Namespaces, facts: HostFacts, where: Where) -> Iterator[Step]:
    early = opens_early(ns, facts)
    for i, mount in enumerate(spec.mounts):
        yield from _mount(mount, i, spec, ns, facts, where, early)


def opens_early(ns: Namespaces, facts: HostFacts) -> bool:
    """The root of a user namespace may reach less than the runtime's root does, and may map no ids of the host's
    filesystems: the setter opens the sources of binds for it. A user's setter may do no more than his namespace."""
    return ns.own("user") and "mnt" in ns.new and facts.has_cap(SYS_ADMIN)


def early_steps(spec: Spec, ns: Namespaces, facts: HostFacts, bundle: str) -> Iterator[Step]:
    """S, while it has the host's files: the sources of binds, in slots numbered as the mounts are."""
    if not opens_early(ns, facts):
        return
    # A copy of the host's mount is one of its peers: what is mounted in it in the container would show on the host.
    shared = spec.linux.rootfs_propagation in ("shared", "rshared")
    propagation = "0x0" if shared else f"{MS_SLAVE | MS_REC:#x}"
    for i, mount in enumerate(spec.mounts):
        origin = f"mounts[{i}]"
        options = read_options(mount.options, origin)
        if not _is_bind(mount, options) or _opened_late(mount, options, spec, bundle):
            continue
        check_source(mount, origin)
        args = (str(i), host_path(mount.source, bundle), _kind(options), "01"[options.recursive], propagation)
        yield Step("open-tree", (*args, *id_maps(mount, options, spec, ns, origin)), origin)


def _opened_late(mount: Mount, options: Options, spec: Spec, bundle: str) -> bool:
    """A link that is copied, and what the mounts before it have put into the root filesystem."""
    return (
        "copy-link" in options.links or _below_root(host_path(mount.source, bundle), spec, bundle) is not None
    )


def _below_root(path: str, spec: Spec, bundle: str) -> str | None:
    """A host's path as one in the container, None if it is outside of the root filesystem."""
    root = host_path(spec.root.path, bundle).rstrip("/") if spec.root else ""
    return path[len(root) :] if root and path.startswith(f"{root}/") else None


def _is_bind(mount: Mount, options: Options) -> bool:
    return (options.bind or mount.type == "bind") and not options.remount


def _mount(
    mount: Mount,
    number: int,
    spec: Spec,
    ns: Namespaces,
    facts: HostFacts,
    where: Where,
    early: bool,
) -> Iterator[Step]:
    origin, bundle = f"mounts[{number}]", where.bundle
    target = in_root(mount.destination, f"{origin}.destination")
    target = (
        _below_root(target, spec, bundle) or target
    )  # the host's name for a place in it, as runc takes it
    options = read_options(mount.options, origin)
    if options.remount:
        yield _remount(target, options, origin)
    elif _is_bind(mount, options):
        check_source(mount, origin)
        maps = id_maps(mount, options, spec, ns, origin)
        if where.exact and options.attr_set | options.attr_clear:
            # In a user namespace but what the host has forbidden: that stays, or is an error where it is asked for.
            words = ("exact", "locked") if ns.own("user") else ("exact",)
            options = options._replace(links=(*options.links, *words))
        if early and not _opened_late(mount, options, spec, bundle):
            yield bind_step(f"@{number}", target, options, origin)
        else:
            yield bind_step(host_path(mount.source, bundle), target, options, origin, maps)
        return  # its propagation is set before it becomes visible
    elif mount.type in ("cgroup", "cgroup2"):
        from knarr.plan.cgroup_mounts import cgroup_mount_steps  # not every container has one

        yield from cgroup_mount_steps(target, options, origin, ns, where.cgroup, facts)
    elif not mount.type:
        raise UsageError(f"{origin}.type: is required for a mount that is not a bind")
    elif mount.type in OF_NAMESPACE and _is_the_hosts(mount.type, ns, facts):
        # With all that the host has mounted in it, which is as read-only as it is itself.
        options = options._replace(recursive=True, attr_set=0, rec_set=options.attr_set | options.rec_set)
        yield bind_step(OF_NAMESPACE[mount.type][1], target, options, origin)
        return
    else:
        if options.copy_up:
            if mount.type != "tmpfs":
                raise UsageError(f"{origin}.options: tmpcopyup is for tmpfs, not {quoted(mount.type)}")
            if target == "/":
                raise UsageError(f"{origin}.options: tmpcopyup cannot copy the whole root")
            yield Step("copy-up", (target,), origin)
        yield new_filesystem(mount, target, options, origin, spec.linux.mount_label if facts.selinux else "")
    if options.propagation:
        yield Step("attach-propagation", (target, f"{options.propagation:#x}"), origin)


def _is_the_hosts(kind: str, ns: Namespaces, facts: HostFacts) -> bool:
    return (ns.own("user") or facts.rootless) and not ns.own(OF_NAMESPACE[kind][0])


def new_filesystem(mount: Mount, target: str, options: Options, origin: str, label: str = "") -> Step:
    if options.idmap or mount.uid_mappings or mount.gid_mappings:
        raise UsageError(f"{origin}.options: only a bind mount can be ID-mapped, not {quoted(mount.type)}")
    data = options.superblock + options.data
    attr = options.attr_set | options.rec_set
    if _closed_late(mount.type, target):
        attr &= ~RDONLY
    if attr & RDONLY and mount.type not in VIRTUAL:
        data = ("ro", *data)  # a block device that is write-protected, or a journal that must not be replayed
    if label and mount.type not in UNLABELLED and not any("context=" in word for word in data):
        escaped = label.replace(",", "\\,")
        data = (*data, f"context={escaped}")
    # A tmpfs without a mode of its own looks like the directory that it covers.
    mode = ("1",) if mount.type == "tmpfs" and not any(word.startswith("mode=") for word in data) else ()
    args = (mount.type, mount.source or mount.type, target, f"{attr:#x}", ",".join(data), *mode)
    return Step("mount", args, origin)


def _closed_late(kind: str, target: str) -> bool:
    """What other mounts, and nodes, are still to be made in is read-only when they are: `closing_steps`."""
    return kind == "tmpfs" or target == "/dev"


def closing_steps(spec: Spec) -> Iterator[Step]:
    for i, mount in enumerate(spec.mounts):
        origin = f"mounts[{i}]"
        options = read_options(mount.options, origin)
        target = in_root(mount.destination, origin)
        if options.remount or _is_bind(mount, options) or not _closed_late(mount.type, target):
            continue
        if (options.attr_set | options.rec_set) & RDONLY:
            yield Step("remount", (target, f"{RDONLY:#x}", "0x0", "0"), origin)


def check_source(mount: Mount, origin: str) -> None:
    if not mount.source:
        raise UsageError(f"{origin}.source: is required for a bind mount")


def id_maps(mount: Mount, options: Options, spec: Spec, ns: Namespaces, origin: str) -> tuple[str, ...]:
    """How the ids of a bind are mapped, as `idmap-bind` takes it; nothing when they are not."""
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        raise UsageError(f"{origin}: has uidMappings or gidMappings, and must have both or neither")
    if not (options.idmap or mount.uid_mappings):
        return ()
    # An ID-mapped mount without maps of its own takes the container's (config.md, `idmap`).
    uids = mount.uid_mappings or spec.linux.uid_mappings
    gids = mount.gid_mappings or spec.linux.gid_mappings
    joined = next((path for kind, path, _ in ns.joined if kind == "user"), "")
    if joined and not uids and not gids:
        return joined, "", "01"[options.idmap_recursive]  # as that namespace maps them
    if not (uids and gids):
        raise UsageError(
            f"{origin}.options: an ID-mapped mount needs uidMappings and gidMappings, its own or the container's"
        )
    check_maps(uids, f"{origin}.uidMappings")
    check_maps(gids, f"{origin}.gidMappings")
    return map_triples(uids), map_triples(gids), "01"[options.idmap_recursive]


def _kind(options: Options, target: str = "") -> str:
    # What is masked lies below these two. A link there could send the mount elsewhere, and a forgery be masked.
    plain = ("plain",) if target in ("/proc", "/sys") else ()
    return ",".join(("auto", *options.links, *plain))


def bind_step(source: str, target: str, options: Options, origin: str, maps: tuple[str, ...] = ()) -> Step:
    """Data words have no meaning for a bind, and mount(2) ignores them too."""
    args = (
        source, target, _kind(options, target), "01"[options.recursive],
        f"{options.attr_set:#x}", f"{options.attr_clear:#x}", f"{options.rec_set:#x}", f"{options.rec_clear:#x}",
        f"{options.propagation:#x}",
    )  # fmt: skip
    return Step("idmap-bind" if maps else "bind", (*args, *maps), origin)


def _remount(target: str, options: Options, origin: str) -> Step:
    on, off, recursive = options.attr_set, options.attr_clear, "0"
    if options.rec_set or options.rec_clear:
        on, off, recursive = on | options.rec_set, off | options.rec_clear, "1"
    # With `bind` it is about that mount alone (mount(8)); without, also about the filesystem.
    data = () if options.bind else options.superblock + options.data
    return Step(
        "remount", (target, f"{on:#x}", f"{off:#x}", recursive, *((",".join(data),) if data else ())), origin
    )


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
