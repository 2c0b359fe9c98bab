"""Network devices of the host that go over into the container (config-linux.md, Network Devices)."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.step import Step, key, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knarr.oci.spec import NetDevice
    from knarr.plan.namespaces import Namespaces

LONGEST = 15  # IFNAMSIZ without the final NUL


def net_device_steps(devices: Mapping[str, NetDevice], ns: Namespaces, *, joined: bool) -> Iterator[Step]:
    """`joined`: those for a namespace that is given by its path, before the setter enters it; else those for a new
    one, which is C's."""
    path = next((path for kind, path, _ in ns.joined if kind == "net"), "")
    for name, device in devices.items():
        origin = f"linux.netDevices[{key(name)}]"
        if not ns.own("net"):
            raise UsageError(f"{origin}: needs a network namespace in linux.namespaces")
        _check(name, origin)
        if device.name:
            _check(device.name, f"{origin}.name", template=True)
        if joined == bool(path):
            yield Step("net-device", (name, device.name or name, *((path,) if path else ())), origin)


def _check(name: str, origin: str, *, template: bool = False) -> None:
    """As the kernel has it (dev_valid_name); a new name may hold one %d, for which it finds a number."""
    plain = name.replace("%d", "", 1) if template else name
    if not 0 < len(name.encode(errors="surrogatepass")) <= LONGEST or name in (".", "..") or "%" in plain:
        raise UsageError(f"{origin}: {quoted(name)} is not a device's name")
    if any(c in "/:\0" or c.isspace() for c in name):
        raise UsageError(f"{origin}: {quoted(name)} is not a device's name")
