"""The root filesystem: what it is made of, how it is put in place, what it is like once entered."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.mount_options import MS_REC, MS_SHARED, MS_SLAVE, PROPAGATION, RDONLY
from knarr.plan.mounts import host_path, in_root
from knarr.plan.step import Step, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.oci.spec import Spec
    from knarr.plan.namespaces import Namespaces


class Rootfs(Record):
    """Layers to mount as an overlay. Host paths; `lower` topmost first. Without `upper` and `work` it is read-only."""

    lower: tuple[str, ...]
    target: str
    upper: str = ""
    work: str = ""
    options: tuple[str, ...] = ()  # of overlay: "userxattr", "volatile"


class Seed(Record):
    """A volume that begins with what the image has at `target`, if it is empty. `marker` is a file beside it, there
    while it is being filled."""

    directory: str
    target: str
    marker: str


def seed_steps(seeds: Sequence[Seed]) -> Iterator[Step]:
    for seed in seeds:
        origin = f"volume at {seed.target}"
        yield Step("seed", (seed.directory, in_root(seed.target, origin), seed.marker), origin)


def rootfs_steps(spec: Spec, rootfs: Rootfs | None, ns: Namespaces, bundle: str) -> Iterator[Step]:
    if "mnt" in ns.new:
        # Before the first mount, so that none of ours shows on the host. Slave rather than private:
        # what the host unmounts must not stay busy in here.
        asked = _propagation(spec, 0)
        flags = asked if asked & MS_SHARED else MS_SLAVE | MS_REC
        yield Step("propagation", ("/", f"{flags:#x}"), "linux.rootfsPropagation")
    if rootfs is None:
        if spec.root is None or not spec.root.path:
            raise UsageError("root.path: is required")
        # As a slave it goes on seeing what the host mounts in that directory; else it is private from here on.
        slave = (f"{MS_SLAVE:#x}",) if _propagation(spec, 0) & MS_SLAVE else ()
        yield Step("root", (host_path(spec.root.path, bundle), "1", *slave), "root.path")
        return
    if not rootfs.lower:
        raise UsageError("root.path: an overlay needs at least one layer")
    if bool(rootfs.upper) != bool(rootfs.work):
        raise UsageError("root.path: an overlay has both an upper and a work directory, or neither")
    args = (rootfs.target, rootfs.upper, rootfs.work, ",".join(rootfs.options), *rootfs.lower)
    yield Step("overlay", args, "root.path")
    yield Step("root", (rootfs.target, "0"), "root.path")


def enter_root_steps(spec: Spec, ns: Namespaces, no_pivot: bool) -> Iterator[Step]:
    if not ns.own("mnt"):
        yield Step("chroot", (), "root.path")  # the host's root stays where it is
    else:
        yield Step("move-root" if no_pivot else "pivot", (), "root.path")
    if spec.linux.rootfs_propagation and "mnt" in ns.new:
        # Again, as pivoting needed it private for a moment.
        yield Step("propagation", ("/", f"{_propagation(spec, 0):#x}"), "linux.rootfsPropagation")
    if spec.root and spec.root.readonly:
        # Only now: every mount point, device and link above had to be made in it.
        yield Step("root-attr", (f"{RDONLY:#x}", "0"), "root.readonly")


def _propagation(spec: Spec, default: int) -> int:
    name = spec.linux.rootfs_propagation
    if not name:
        return default
    if name not in PROPAGATION:
        raise UsageError(
            f"linux.rootfsPropagation: unknown value {quoted(name)}", hint=f"one of {' '.join(PROPAGATION)}"
        )
    return PROPAGATION[name]


def guard_steps(spec: Spec) -> Iterator[Step]:
    """Read-only before masked: a mask may lie inside a read-only path, and binding that recursively keeps the mask."""
    for i, path in enumerate(spec.linux.readonly_paths):
        origin = f"linux.readonlyPaths[{i}]"
        yield Step("readonly", (in_root(path, origin),), origin)
    for i, path in enumerate(spec.linux.masked_paths):
        if path in spec.linux.masked_paths[:i]:
            continue  # hidden already
        origin = f"linux.maskedPaths[{i}]"
        _absolute(path, origin)
        if path not in spec.linux.masked_paths[:i]:
            yield Step("mask", (in_root(path, origin),), origin)


def _absolute(path: str, origin: str) -> None:
    if not path.startswith("/"):
        raise UsageError(f"{origin}: {quoted(path)} is not absolute")
