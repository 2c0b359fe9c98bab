"""/dev: nodes, terminals and links (config-linux.md, Default Devices; config.md, Default Filesystems)."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.capabilities import MKNOD
from knarr.plan.mounts import in_root
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
    """Nodes as the host's root; bound from the host where mknod is refused: in a user namespace."""
    if brings_own_dev(spec):
        return
    make = _node if _may_mknod(ns, facts) else _bound
    asked = {in_root(d.path, f"linux.devices[{i}].path") for i, d in enumerate(spec.linux.devices)}
    for path, major, minor in DEFAULT_DEVICES:
        if path not in asked:
            yield make(path, "c", major, minor, 0o666, 0, 0, "linux.devices")
    for i, device in enumerate(spec.linux.devices):
        origin = f"linux.devices[{i}]"
        check_device(device, origin)
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        path = in_root(device.path, origin)
        yield make(
            path, device.type, device.major, device.minor, mode, device.uid or 0, device.gid or 0, origin
        )
    # The container's own pts instance, not the node of the host's that an image may bring.
    yield Step("make-link", ("/dev/ptmx", "pts/ptmx"), "linux.devices")
    for path, text in LINKS:
        yield Step("make-link", (path, text), "linux.devices")


def brings_own_dev(spec: Spec) -> bool:
    """A /dev bound from elsewhere is its owner's: nothing is made in it."""
    for mount in spec.mounts:
        if mount.destination.rstrip("/") == "/dev":
            return mount.type == "bind" or "bind" in mount.options or "rbind" in mount.options
    return False


def _may_mknod(ns: Namespaces, facts: HostFacts) -> bool:
    return not (facts.rootless or ns.own("user")) and facts.has_cap(MKNOD)


def _node(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int, origin: str) -> Step:
    numbers = (str(major), str(minor), f"{mode:o}", str(uid), str(gid))
    return Step("device", (path, kind, *numbers), origin)


def _bound(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int, origin: str) -> Step:
    return Step("bind", (path, path, "file", "0", "0x0", "0x0", "0x0", "0x0", "0x0"), origin)


def check_device(device: Device, origin: str) -> None:
    if device.type not in ("c", "b", "u", "p"):
        raise UsageError(f"{origin}.type: unknown device type {quoted(device.type)}", hint="one of c b u p")
    if not 0 <= device.major < 1 << 12:
        raise UsageError(f"{origin}.major: {device.major} is not a major number")
    if not 0 <= device.minor < 1 << 20:
        raise UsageError(f"{origin}.minor: {device.minor} is not a minor number")
