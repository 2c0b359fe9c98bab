"""A container's limits as the properties of a unit."""

from __future__ import annotations

import pytest

from knarr.errors import HostError, UsageError
from knarr.oci.spec import BlockIO, Cpu, DeviceRule, Memory, Pids, Resources, ThrottleDevice, WeightDevice
from knarr.plan.unit_limits import UNLIMITED, device_properties, limit_properties, list_mask


def test_limits() -> None:
    resources = Resources(
        memory=Memory(limit=1000, swap=1500, reservation=500),
        cpu=Cpu(shares=1024, quota=155_001, period=100_000, cpus="0-2,8", mems="0"),
        pids=Pids(limit=7),
    )
    assert dict(limit_properties(resources)) == {
        "MemoryMax": ("t", 1000),
        "MemoryLow": ("t", 500),
        "MemorySwapMax": ("t", 500),
        "CPUWeight": ("t", 100),
        "CPUQuotaPerSecUSec": ("t", 1_560_000),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "AllowedCPUs": ("ay", b"\x07\x01"),
        "AllowedMemoryNodes": ("ay", b"\x01"),
        "TasksMax": ("t", 7),
    }
    assert limit_properties(Resources()) == ()


def test_unlimited() -> None:
    unlimited = Resources(memory=Memory(limit=-1, swap=-1), cpu=Cpu(quota=-1), pids=Pids(limit=-1))
    assert dict(limit_properties(unlimited)) == {
        "MemoryMax": ("t", UNLIMITED),
        "MemorySwapMax": ("t", UNLIMITED),
        "CPUQuotaPerSecUSec": ("t", UNLIMITED),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "TasksMax": ("t", UNLIMITED),
    }


def test_no_swap() -> None:
    assert limit_properties(Resources(memory=Memory(swap=0))) == (("MemorySwapMax", ("t", 0)),)


def test_block_io() -> None:
    block = BlockIO(
        weight=500,
        weight_device=(WeightDevice(8, 0, weight=10), WeightDevice(8, 16)),
        throttle_read_bps_device=(ThrottleDevice(8, 0, 4096), ThrottleDevice(8, 16, 0)),
        throttle_write_iops_device=(ThrottleDevice(8, 0, 9),),
    )
    assert dict(limit_properties(Resources(block_io=block))) == {
        "IOWeight": ("t", 4950),
        "IODeviceWeight": ("a(st)", [("/dev/block/8:0", 1)]),
        "IOReadBandwidthMax": ("a(st)", [("/dev/block/8:0", 4096), ("/dev/block/8:16", UNLIMITED)]),
        "IOWriteIOPSMax": ("a(st)", [("/dev/block/8:0", 9)]),
    }


def test_version_1_has_other_names() -> None:
    resources = Resources(memory=Memory(limit=1000), cpu=Cpu(shares=512), block_io=BlockIO(weight=500))
    assert dict(limit_properties(resources, v1=True)) == {
        "MemoryLimit": ("t", 1000),
        "CPUShares": ("t", 512),
        "BlockIOWeight": ("t", 500),
    }


def test_unified() -> None:
    unified = {
        "cpu.max": "50000 100000",
        "cpu.weight": "1234",
        "cpuset.cpus": "1",
        "memory.high": " 4096\n",
        "memory.max": "max",
        "pids.max": "9",
        "io.weight": "default 77",
        "memory.oom.group": "1",
        "hugetlb.2MB.max": "0",
        "io.weight.x": "1",
    }
    assert dict(limit_properties(Resources(unified=unified))) == {
        "CPUQuotaPerSecUSec": ("t", 500_000),
        "CPUQuotaPeriodUSec": ("t", 100_000),
        "CPUWeight": ("t", 1234),
        "AllowedCPUs": ("ay", b"\x02"),
        "MemoryHigh": ("t", 4096),
        "MemoryMax": ("t", UNLIMITED),
        "TasksMax": ("t", 9),
        "IOWeight": ("t", 77),
        "OOMPolicy": ("s", "kill"),
    }
    with pytest.raises(UsageError, match=r"linux\.resources\.unified\.memory\.high: .much. is not a number"):
        limit_properties(Resources(unified={"memory.high": "much"}))


def test_the_later_of_two_holds() -> None:
    resources = Resources(memory=Memory(limit=1000), unified={"memory.max": "2000"})
    assert limit_properties(resources) == (("MemoryMax", ("t", 2000)),)


NOTHING = DeviceRule(False, "a", None, None, "rwm")
GROUPS = {("char", 136): "pts", ("char", 10): "misc"}


def test_devices() -> None:
    rules = (NOTHING, DeviceRule(True, "c", 10, None, "rw"), DeviceRule(True, "b", 7, 0, "r"))
    (policy, allow) = device_properties(rules, GROUPS)
    assert policy == ("DevicePolicy", ("s", "strict"))
    name, (signature, allowed) = allow
    assert (name, signature) == ("DeviceAllow", "a(ss)")
    assert isinstance(allowed, tuple)
    assert allowed[:2] == (("char-misc", "rw"), ("/dev/block/7:0", "r"))
    assert ("/dev/char/1:3", "rwm") in allowed and ("char-*", "m") in allowed  # what every container has


@pytest.mark.parametrize(
    "rules",
    [
        (),
        (DeviceRule(True, "a", None, None, "rwm"),),
        (NOTHING, DeviceRule(True, "a", None, None, "rwm")),
        (DeviceRule(False, "c", 10, 200, "rwm"),),
    ],
)
def test_devices_that_are_not_closed(rules: tuple[DeviceRule, ...]) -> None:
    assert dict(device_properties(rules, GROUPS)) == {
        "DevicePolicy": ("s", "auto"),
        "DeviceAllow": ("a(ss)", ()),
    }


def test_a_device_that_systemd_cannot_name() -> None:
    rules = (NOTHING, DeviceRule(True, "c", 99, None, "rw"))
    assert dict(device_properties(rules, GROUPS))["DevicePolicy"] == ("s", "auto")  # our program holds
    assert dict(device_properties(rules, GROUPS, v1=True))["DevicePolicy"] == ("s", "strict")


@pytest.mark.parametrize("text", ["x", "1-", "", "0-99999999999", "-3"])
def test_bad_lists(text: str) -> None:
    with pytest.raises(HostError, match="is not a list of cpus"):
        list_mask(text)
