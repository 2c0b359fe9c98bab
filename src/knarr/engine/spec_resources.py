"""Limits as docker's flags have them, to the specification's `linux.resources`."""

from __future__ import annotations

from knarr.oci.spec import Cpu, DeviceRule, Memory, Pids, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.options import Limits
    from knarr.plan.facts import HostFacts

_PERIOD_US = 100_000
_NANO = 1_000_000_000


def resources(limits: Limits, rules: tuple[DeviceRule, ...], facts: HostFacts) -> Resources:
    """docker's meaning: `--cpus` is a quota of a 100 ms period, and `--memory` alone allows as much swap again."""
    return Resources(
        devices=rules,
        memory=_memory(limits),
        cpu=_cpu(limits),
        pids=None if limits.pids is None else Pids(limits.pids if limits.pids > 0 else -1),
    )


def _memory(limits: Limits) -> Memory | None:
    swap = limits.memory_swap
    if swap is None and limits.memory is not None and limits.memory > 0:
        swap = 2 * limits.memory
    if (
        limits.memory is None
        and limits.memory_reservation is None
        and not limits.oom_kill_disable
        and swap is None
    ):
        return None
    return Memory(
        limit=limits.memory,
        reservation=limits.memory_reservation,
        swap=swap,
        disable_oom_killer=limits.oom_kill_disable,
    )


def _cpu(limits: Limits) -> Cpu | None:
    period, quota = limits.cpu_period, limits.cpu_quota
    if limits.nano_cpus is not None:
        period, quota = _PERIOD_US, limits.nano_cpus * _PERIOD_US // _NANO
    cpu = Cpu(
        shares=limits.cpu_shares, quota=quota, period=period, cpus=limits.cpuset_cpus, mems=limits.cpuset_mems
    )
    return None if cpu == Cpu() else cpu
