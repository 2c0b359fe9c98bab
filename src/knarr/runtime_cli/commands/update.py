"""knarr-runtime update"""

from __future__ import annotations

import sys

from knarr.cli.options import Command, Option, Parsed
from knarr.errors import UsageError
from knarr.oci.document import decode
from knarr.oci.spec import IntelRdt, Resources
from knarr.runtime.bundle import parsed as document
from knarr.runtime.bundle import read_document
from knarr.runtime.update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context

# Flag -> where it stands in linux.resources.
_BYTES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
}
_NUMBERS = {
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}
_TEXTS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}


def _update(context: Context) -> int:
    parsed = context.parsed
    if parsed.given("resources"):
        path = parsed.text("resources")
        text = sys.stdin.buffer.read() if path == "-" else read_document(path)
        resources = decode(Resources, document(text, "standard input" if path == "-" else path))
    else:
        resources = _from_flags(parsed)
    update(context.directory(), resources, _rdt(parsed), context.facts, context.log.warn)
    return 0


def _from_flags(parsed: Parsed) -> Resources:
    document: dict[str, dict[str, object]] = {}
    for flags, read in ((_BYTES, _bytes), (_NUMBERS, Parsed.integer), (_TEXTS, Parsed.text)):
        for flag, (section, field) in flags.items():
            if parsed.text(flag):  # an empty one is none, as runc has it
                document.setdefault(section, {})[field] = read(parsed, flag)
    return decode(Resources, document)


def _rdt(parsed: Parsed) -> IntelRdt | None:
    if not (parsed.given("l3-cache-schema") or parsed.given("mem-bw-schema")):
        return None
    return IntelRdt(
        l3_cache_schema=parsed.text("l3-cache-schema"), mem_bw_schema=parsed.text("mem-bw-schema")
    )


_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def _bytes(parsed: Parsed, flag: str) -> int:
    text = parsed.text(flag).lower().removesuffix("ib")
    number = text.rstrip("bkmgt")
    unit = text[len(number) :].removesuffix("b") or "b"
    digits = number.removeprefix("-")
    if unit not in _UNITS or not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise UsageError(f"invalid argument {parsed.text(flag)!r} for --{flag}: not a number of bytes")
    return int(number) << _UNITS[unit]


COMMAND = Command(
    "update",
    "Change the limits of a container.",
    "update [OPTIONS] ID",
    _update,
    (
        Option(
            "resources", "A file with linux.resources as JSON; - is standard input", short="r", metavar="FILE"
        ),
        Option("memory", "Memory limit (64m, 1g, -1)", metavar="BYTES"),
        Option("memory-reservation", "What it keeps when memory is short", metavar="BYTES"),
        Option("memory-swap", "Memory and swap together", metavar="BYTES"),
        Option("kernel-memory", "Memory of the kernel, on old kernels", metavar="BYTES"),
        Option("kernel-memory-tcp", "Memory of sockets, on cgroup v1", metavar="BYTES"),
        Option("cpu-period", "Length of a period", metavar="US"),
        Option("cpu-quota", "Time it may use in a period", metavar="US"),
        Option("cpu-burst", "Unused time it may save up", metavar="US"),
        Option("cpu-share", "Its share beside others", metavar="N"),
        Option("cpu-rt-period", "Length of a realtime period", metavar="US"),
        Option("cpu-rt-runtime", "Realtime it may use in a period", metavar="US"),
        Option("cpu-idle", "1: runs when nobody else wants to", metavar="0|1"),
        Option("cpuset-cpus", "CPUs it may use", metavar="LIST"),
        Option("cpuset-mems", "Memory nodes it may use", metavar="LIST"),
        Option("pids-limit", "How many processes it may have", metavar="N"),
        Option("blkio-weight", "Its weight for block devices", metavar="N"),
        Option("l3-cache-schema", "Its part of the L3 cache (resctrl)", metavar="SCHEMA"),
        Option("mem-bw-schema", "Its memory bandwidth (resctrl)", metavar="SCHEMA"),
    ),
    minimum=1,
    maximum=1,
)
