"""Limits of block I/O as writes to cgroup files (config-linux.md, Block IO).

Which files there are for a weight depends on the I/O scheduler: bfq's own, or those of cfq (gone since Linux 5.0) and
of version 2's cost model, whose scale is another.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.cgroup_limits import ORIGIN, Compiler, Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import BlockIO, WeightDevice

THROTTLES = (
    ("throttle_read_bps_device", "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttle_write_bps_device", "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttle_read_iops_device", "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttle_write_iops_device", "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
)
NO_LEAVES = "cgroup version 2 has no such setting"


def block_io(out: Compiler, b: BlockIO) -> None:
    home = out.home("blkio", "io")
    _check_weight(b.weight, "blockIO.weight")
    _check_weight(b.leaf_weight, "blockIO.leafWeight")
    if not (home.v1 or home.v2):
        out.refuse("block I/O limits", field="blockIO")
        return
    if b.weight:
        _weight(out, home, "", b.weight, "blockIO.weight")
    if b.leaf_weight:
        _leaf_weight(out, home, "blkio.leaf_weight", str(b.leaf_weight), "blockIO.leafWeight")
    for i, device in enumerate(b.weight_device):
        _weight_device(out, home, device, f"blockIO.weightDevice[{i}]")
    for attribute, name, v1_file, v2_key in THROTTLES:
        for i, throttle in enumerate(getattr(b, attribute)):
            field, node = f"blockIO.{name}[{i}]", f"{throttle.major}:{throttle.minor}"
            out.unsigned(throttle.rate, f"{field}.rate")
            if home.v1:
                out.write(home, v1_file, f"{node} {throttle.rate}", field)
            else:
                out.write(home, "io.max", f"{node} {v2_key}={throttle.rate or 'max'}", field)


def _weight_device(out: Compiler, home: Home, device: WeightDevice, field: str) -> None:
    node = f"{device.major}:{device.minor} "
    if device.weight is None and device.leaf_weight is None:
        raise UsageError(f"{ORIGIN}.{field}: has neither weight nor leafWeight")
    _check_weight(device.weight, f"{field}.weight")
    _check_weight(device.leaf_weight, f"{field}.leafWeight")
    if device.weight:
        _weight(out, home, node, device.weight, f"{field}.weight")
    if device.leaf_weight:
        value = f"{node}{device.leaf_weight}"
        _leaf_weight(out, home, "blkio.leaf_weight_device", value, f"{field}.leafWeight")


def _weight(out: Compiler, home: Home, node: str, weight: int, field: str) -> None:
    if home.v1:
        suffix = "_device" if node else ""
        value = f"{node}{weight}"
        out.first(home, field, (f"blkio.bfq.weight{suffix}", value), (f"blkio.weight{suffix}", value))
    else:
        converted = f"{node}{io_weight(weight)}"
        out.first(home, field, ("io.bfq.weight", f"{node}{weight}"), ("io.weight", converted))


def _leaf_weight(out: Compiler, home: Home, file: str, value: str, field: str) -> None:
    if home.v1:
        out.write(home, file, value, field, optional=True)
    else:
        out.refuse(f"{ORIGIN}.{field}", NO_LEAVES)


def _check_weight(weight: int | None, field: str) -> None:
    if weight and not 10 <= weight <= 1000:
        raise UsageError(f"{ORIGIN}.{field}: {weight} is not between 10 and 1000")


def io_weight(weight: int) -> int:
    """v1 `blkio.weight` 10…1000 as v2 `io.weight` 1…10000."""
    return 1 + (weight - 10) * 9999 // 990
