"""`--device` and `--privileged`: devices of the host, looked up there."""

from __future__ import annotations

import os
import stat

from knarr.errors import UsageError
from knarr.oci.spec import Device, DeviceRule, Mount
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knarr.engine.options import ContainerOptions

# A container has its own of these.
_OWN = frozenset(
    ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/fd", "/dev/.udev")
)


class Requested(Record):
    """`sources`: the host's path by the container's."""

    devices: tuple[Device, ...] = ()
    rules: tuple[DeviceRule, ...] = ()
    sources: Mapping[str, str] = {}


def requested_devices(options: ContainerOptions) -> Requested:
    """The devices asked for, and the rules that let them through. A directory gives every device below it."""
    found: dict[str, tuple[str, Device]] = {}
    rules: list[DeviceRule] = []
    if options.security.privileged:
        found.update(_below("/dev", "/dev"))
    for request in options.devices:
        try:
            mode = os.stat(request.source).st_mode
        except OSError as e:
            raise UsageError(f"device {request.source}: {(e.strerror or str(e)).lower()}") from e
        if stat.S_ISDIR(mode):
            devices = dict(_below(request.source, request.target))
        else:
            device = _device(request.source, request.target)
            if device is None:
                raise UsageError(f"device {request.source}: is not a device")
            devices = {request.target: (request.source, device)}
        found.update(devices)
        rules += [DeviceRule(True, d.type, d.major, d.minor, request.access) for _, d in devices.values()]
    sources = {target: source for target, (source, _) in found.items()}
    return Requested(tuple(device for _, device in found.values()), tuple(rules), sources)


def bound_elsewhere(asked: Requested) -> tuple[Requested, tuple[Mount, ...]]:
    """For a user namespace, in which no device can be made: those with another path inside, as mounts of the host's.
    The others are bound where they are by the plan, who knows no path of the host but theirs."""
    moved = {d.path: asked.sources[d.path] for d in asked.devices if asked.sources[d.path] != d.path}
    kept = tuple(d for d in asked.devices if d.path not in moved)
    options = ("bind", "rprivate", "nosuid", "noexec")
    return asked._replace(devices=kept), tuple(Mount(t, s, "bind", options) for t, s in moved.items())


def _below(source: str, target: str) -> Iterator[tuple[str, tuple[str, Device]]]:
    """(path in the container, (path on the host, device)) of every device below a directory."""
    for entry in sorted(os.scandir(source), key=lambda e: e.name):
        if entry.path in _OWN or entry.is_symlink():
            continue
        inside = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, inside)
        elif device := _device(entry.path, inside):
            yield inside, (entry.path, device)


def _device(source: str, target: str) -> Device | None:
    info = os.stat(source)
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    number = info.st_rdev
    return Device(
        target, kind, os.major(number), os.minor(number), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    )
