"""Cache and memory bandwidth through resctrl (config-linux.md, IntelRdt).

    <resctrl>/                       the default class, closID `/`
    <resctrl>/<closID or id>/        the container's class: schemata, tasks
        mon_groups/<id>/             its monitoring group, with enableMonitoring

The setter enters, its child is born there: what a process is in is inherited.
"""

from __future__ import annotations

from knarr.errors import HostError, UsageError
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import IntelRdt
    from knarr.plan.facts import HostFacts

ORIGIN = "linux.intelRdt"


def rdt_steps(rdt: IntelRdt, facts: HostFacts, container_id: str) -> Iterator[Step]:
    """Raises `HostError` without a mounted resctrl, `UsageError` for schemas that are none."""
    group, lines = rdt_group(rdt, facts, container_id), schemata_lines(rdt)
    if lines:
        # A class that is there already has to be like that; another is made.
        yield Step("resctrl-group", (group, *lines), f"{ORIGIN}.schemata")
    elif not rdt.clos_id:
        yield Step("resctrl-group", (group,), f"{ORIGIN}.closID")
    # A class without schemas that is not there has no such file.
    yield Step("write", (f"{group}/tasks", "0"), f"{ORIGIN}.closID")
    if rdt.enable_monitoring:
        monitor = f"{group}/mon_groups/{container_id}"
        yield Step("mkdir", (monitor, "755"), f"{ORIGIN}.enableMonitoring")
        yield Step("write", (f"{monitor}/tasks", "0"), f"{ORIGIN}.enableMonitoring")


def rdt_teardown_steps(rdt: IntelRdt, facts: HostFacts, container_id: str) -> Iterator[Step]:
    """A class named by `closID` is not ours to remove; what bears the container's id is."""
    group = rdt_group(rdt, facts, container_id)
    if rdt.enable_monitoring:
        path = f"{group}/mon_groups/{container_id}"
        yield Step("rmdir", (path,), f"{ORIGIN}.enableMonitoring", optional=True)
    if not rdt.clos_id:
        yield Step("rmdir", (group,), f"{ORIGIN}.closID", optional=True)


def rdt_group(rdt: IntelRdt, facts: HostFacts, container_id: str) -> str:
    if not facts.resctrl:
        raise HostError(
            f"{ORIGIN}: no resctrl filesystem is mounted",
            hint="mount -t resctrl resctrl /sys/fs/resctrl, if this processor has it",
        )
    name = rdt.clos_id or container_id
    if name == "/":
        return facts.resctrl
    if not name or "/" in name or name in (".", "..", "info", "mon_groups", "mon_data"):
        raise UsageError(f"{ORIGIN}.closID: {quoted(name)} is not the name of a class")
    return f"{facts.resctrl}/{name}"


def schemata_lines(rdt: IntelRdt) -> list[str]:
    """In the order they are to be written."""
    lines: list[str] = []
    for field, text in (("l3CacheSchema", rdt.l3_cache_schema), ("memBwSchema", rdt.mem_bw_schema)):
        if text:
            lines.append(_line(text, f"{ORIGIN}.{field}"))
    if rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:"):
        raise UsageError(f"{ORIGIN}.memBwSchema: {quoted(rdt.mem_bw_schema)} does not begin with MB:")
    lines += (_line(text, f"{ORIGIN}.schemata[{i}]") for i, text in enumerate(rdt.schemata))
    return lines


def _line(text: str, origin: str) -> str:
    if "\n" in text or not text:
        raise UsageError(f"{origin}: {quoted(text)} is not one line")
    return text
