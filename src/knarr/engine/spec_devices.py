"""`--device` and `--privileged`: devices of the host, looked up there."""

from __future__ import annotations

import os
import stat

from knarr.errors import UsageError
from knarr.oci.spec import Device, DeviceRule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.engine.options import ContainerOptions

# A container has its own of these.
_OWN = frozenset(
    ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/fd", "/dev/.udev")
)


def requested_devices(options: ContainerOptions) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """The devices asked for, and the rules that let them through. A directory gives every device below it."""
    found: dict[str, Device] = {}
    rules: list[DeviceRule] = []
    if options.security.privileged:
        found.update((device.path, device) for device in _below("/dev", "/dev"))
    for request in options.devices:
        try:
            mode = os.stat(request.source).st_mode
        except OSError as e:
            raise UsageError(f"device {request.source}: {(e.strerror or str(e)).lower()}") from e
        if stat.S_ISDIR(mode):
            devices = list(_below(request.source, request.target))
        else:
            device = _device(request.source, request.target)
            if device is None:
                raise UsageError(f"device {request.source}: is not a device")
            devices = [device]
        found.update((device.path, device) for device in devices)
        rules += [DeviceRule(True, d.type, d.major, d.minor, request.access) for d in devices]
    return tuple(found.values()), tuple(rules)


def _below(source: str, target: str) -> Iterator[Device]:
    for entry in sorted(os.scandir(source), key=lambda e: e.name):
        if entry.path in _OWN or entry.is_symlink():
            continue
        inside = f"{target}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, inside)
        elif device := _device(entry.path, inside):
            yield device


def _device(source: str, target: str) -> Device | None:
    info = os.stat(source)
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        return None
    number = info.st_rdev
    return Device(
        target, kind, os.major(number), os.minor(number), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
    )
