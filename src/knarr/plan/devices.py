"""/dev: nodes, terminals and links (config-linux.md, Default Devices; config.md, Default Filesystems)."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.capabilities import MKNOD
from knarr.plan.mount_options import NOEXEC, NOSUID
from knarr.plan.mounts import in_root, opens_early
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Device, Spec
    from knarr.plan.facts import HostFacts
    from knarr.plan.namespaces import Namespaces

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
)


def device_steps(spec: Spec, ns: Namespaces, facts: HostFacts) -> Iterator[Step]:
    """Nodes as the host's root; in a user namespace, where mknod is refused, made by the setter or the host's own."""
    if brings_own_dev(spec):
        return
    if not any(in_root(m.destination, "mounts") == "/dev" for m in spec.mounts):
        # The image's own directory: were it a link, the nodes would lie where nobody looks for them.
        yield Step("no-link", ("/dev",), "linux.devices")
    make = _node if _may_mknod(ns, facts) else _bound
    early = _made_early(ns, facts)
    asked = {in_root(d.path, f"linux.devices[{i}].path") for i, d in enumerate(spec.linux.devices)}
    for path, major, minor in DEFAULT_DEVICES:
        if path not in asked:
            yield make(path, "c", (str(major), str(minor), "666", "0", "0"), "linux.devices")
    for i, device in enumerate(spec.linux.devices):
        origin = f"linux.devices[{i}]"
        numbers = _numbers(device, origin)
        path = in_root(device.path, origin)
        if make is _node or device.type == "p":
            # What is there and is something else is an error (config-linux.md); the defaults replace it.
            yield Step("device", (path, device.type, *numbers, "1"), origin)
        elif early:
            yield _bound(path, device.type, numbers, origin, f"@{_slot(spec, i)}")
        else:
            yield _bound(path, device.type, numbers, origin)
    # The container's own pts instance, not the node of the host's that an image may bring.
    yield Step("make-link", ("/dev/ptmx", "pts/ptmx"), "linux.devices")
    for path, text in LINKS:
        yield Step("make-link", (path, text), "linux.devices")


def early_device_steps(spec: Spec, ns: Namespaces, facts: HostFacts) -> Iterator[Step]:
    """S makes the nodes that the root of a user namespace may not make, in slots behind those of the mounts."""
    if not _made_early(ns, facts) or brings_own_dev(spec):
        return
    from knarr.plan.idmap import host_id

    linux = spec.linux
    for i, device in enumerate(linux.devices):
        origin = f"linux.devices[{i}]"
        if device.type == "p":
            continue
        major, minor, mode, *_ = _numbers(device, origin)
        owner = (
            host_id(linux.uid_mappings, device.uid or 0, f"{origin}.uid"),
            host_id(linux.gid_mappings, device.gid or 0, f"{origin}.gid"),
        )
        yield Step("open-node", (_slot(spec, i), device.type, major, minor, mode, *map(str, owner)), origin)


def _slot(spec: Spec, number: int) -> str:
    return str(len(spec.mounts) + number)


def _made_early(ns: Namespaces, facts: HostFacts) -> bool:
    """The ids of a namespace that is joined are not known."""
    return "user" in ns.new and opens_early(ns, facts) and facts.has_cap(MKNOD) and facts.initial_userns


def brings_own_dev(spec: Spec) -> bool:
    """A /dev bound from elsewhere is its owner's: nothing is made in it."""
    for mount in spec.mounts:
        if mount.destination.rstrip("/") == "/dev":
            return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options
    return False


def _may_mknod(ns: Namespaces, facts: HostFacts) -> bool:
    return not (facts.rootless or ns.own("user")) and facts.has_cap(MKNOD)


def _numbers(device: Device, origin: str) -> tuple[str, ...]:
    """Major, minor, mode, uid, gid."""
    check_device(device, origin)
    mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    return str(device.major), str(device.minor), f"{mode:o}", str(device.uid or 0), str(device.gid or 0)


def _node(path: str, kind: str, numbers: tuple[str, ...], origin: str) -> Step:
    return Step("device", (path, kind, *numbers), origin)


def _bound(path: str, kind: str, numbers: tuple[str, ...], origin: str, source: str = "") -> Step:
    flags = f"{NOSUID | NOEXEC:#x}"
    return Step("bind", (source or path, path, "file", "0", flags, "0x0", "0x0", "0x0", "0x0"), origin)


def check_device(device: Device, origin: str) -> None:
    if device.type not in ("c", "b", "u", "p"):
        raise UsageError(f"{origin}.type: unknown device type {quoted(device.type)}", hint="one of c b u p")
    if device.type == "p":
        return
    if not 0 <= device.major < 1 << 12:
        raise UsageError(f"{origin}.major: {device.major} is not a major number")
    if not 0 <= device.minor < 1 << 20:
        raise UsageError(f"{origin}.minor: {device.minor} is not a minor number")
