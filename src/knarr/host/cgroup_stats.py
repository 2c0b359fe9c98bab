"""Everything a container's cgroups have counted, in the words that `runc events --stats` made usual.

A path is the cgroup's directory; v1 or v2 is seen by the files in it. What a kernel does not count is absent.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from knarr.plan.cgroup import CgroupPlacement

_UNLIMITED = (1 << 64) - 1


def statistics(place: CgroupPlacement) -> dict[str, Any]:
    """Times in nanoseconds, sizes in bytes."""
    parts: dict[str, Callable[[CgroupPlacement], dict[str, Any]]] = {
        "cpu": _cpu,
        "memory": _memory,
        "cpuset": _cpuset,
        "pids": _pids,
        "blkio": _block_io,
        "hugetlb": _huge_pages,
    }
    return {name: read(place) for name, read in parts.items()}


def _cpu(place: CgroupPlacement) -> dict[str, Any]:
    accounting, cpu = place.v1_of("cpuacct"), place.v1_of("cpu")
    if accounting:
        ticks_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        used = _table(f"{accounting}/cpuacct.stat")
        rows = (words for cpu_id, words in _lines(f"{accounting}/cpuacct.usage_all") if cpu_id.isdecimal())
        split = [(int(words[0]), int(words[1])) for words in rows if len(words) == 2]
        usage: dict[str, Any] = {
            "total": _number(f"{accounting}/cpuacct.usage"),
            "percpu": _numbers(f"{accounting}/cpuacct.usage_percpu"),
            "percpu_kernel": [kernel for _, kernel in split],
            "percpu_user": [user for user, _ in split],
            "kernel": used.get("system", 0) * ticks_ns,
            "user": used.get("user", 0) * ticks_ns,
        }
        counted = _table(f"{cpu or accounting}/cpu.stat")
        throttled_ns = counted.get("throttled_time", 0)
    else:
        counted = _table(f"{place.v2}/cpu.stat") if place.v2 else {}
        usage = {
            "total": counted.get("usage_usec", 0) * 1000,
            "kernel": counted.get("system_usec", 0) * 1000,
            "user": counted.get("user_usec", 0) * 1000,
        }
        throttled_ns = counted.get("throttled_usec", 0) * 1000
    throttling = {
        "periods": counted.get("nr_periods", 0),
        "throttledPeriods": counted.get("nr_throttled", 0),
        "throttledTime": throttled_ns,
    }
    return {"usage": usage, "throttling": throttling}


_CPUSET_NUMBERS = (
    "cpu_exclusive", "mem_exclusive", "mem_hardwall", "memory_migrate", "memory_pressure", "memory_spread_page",
    "memory_spread_slab", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def _cpuset(place: CgroupPlacement) -> dict[str, Any]:
    """Of version 1 alone, as runc has it. Numbers of processors and memory nodes, one by one."""
    path = place.v1_of("cpuset")
    if not path:
        return {}
    found: dict[str, Any] = {name: _list(_read(f"{path}/cpuset.{name}")) for name in ("cpus", "mems")}
    for name in _CPUSET_NUMBERS:
        text = _read(f"{path}/cpuset.{name}").strip()
        found[name] = int(text) if text.removeprefix("-").isdecimal() else 0
    return found


def _list(text: str) -> list[int]:
    """`0-2,5` as [0, 1, 2, 5]."""
    ranges = (word.partition("-") for word in text.strip().split(",") if word)
    return [n for first, _, last in ranges for n in range(int(first), int(last or first) + 1)]


def _memory(place: CgroupPlacement) -> dict[str, Any]:
    path = place.v1_of("memory")
    if path:
        raw = _table(f"{path}/memory.stat")
        return {
            "cache": raw.get("cache", 0),
            "usage": _counter_v1(path, "memory."),
            "swap": _counter_v1(path, "memory.memsw."),
            "kernel": _counter_v1(path, "memory.kmem."),
            "kernelTCP": _counter_v1(path, "memory.kmem.tcp."),
            "raw": raw,
        }
    if not place.v2 or "memory" not in place.v2_controllers:
        return {}
    raw = _table(f"{place.v2}/memory.stat")
    events = _table(f"{place.v2}/memory.events")
    usage = _counter_v2(place.v2, "memory.") | {"failcnt": events.get("max", 0)}
    swap = _counter_v2(place.v2, "memory.swap.")
    return {"cache": raw.get("file", 0), "usage": usage, "swap": swap, "raw": raw}


def _counter_v1(path: str, prefix: str) -> dict[str, int]:
    names = {
        "limit": "limit_in_bytes",
        "usage": "usage_in_bytes",
        "max": "max_usage_in_bytes",
        "failcnt": "failcnt",
    }
    return {word: _number(f"{path}/{prefix}{name}") for word, name in names.items()}


def _counter_v2(path: str, prefix: str) -> dict[str, int]:
    names = {"limit": "max", "usage": "current", "max": "peak"}
    return {word: _number(f"{path}/{prefix}{name}") for word, name in names.items()}


def _pids(place: CgroupPlacement) -> dict[str, Any]:
    path = place.v1_of("pids") or (place.v2 if "pids" in place.v2_controllers else "")
    if not path:
        return {}
    limit = _number(f"{path}/pids.max")
    found = {"current": _number(f"{path}/pids.current")}
    return found if limit == _UNLIMITED else {**found, "limit": limit}


_BLOCK_V1 = {"ioServiceBytesRecursive": "io_service_bytes", "ioServicedRecursive": "io_serviced"}
_COUNTED_BY = ("blkio.bfq.{}_recursive", "blkio.throttle.{}_recursive", "blkio.throttle.{}")


def _block_io(place: CgroupPlacement) -> dict[str, Any]:
    path = place.v1_of("blkio")
    if path:
        return {
            word: _first(path, [form.format(name) for form in _COUNTED_BY])
            for word, name in _BLOCK_V1.items()
        }
    if not place.v2 or "io" not in place.v2_controllers:
        return {}
    size: list[dict[str, Any]] = []
    count: list[dict[str, Any]] = []
    for device, fields in _lines(f"{place.v2}/io.stat"):
        values = dict(word.partition("=")[::2] for word in fields)
        for into, words in ((size, ("rbytes", "wbytes")), (count, ("rios", "wios"))):
            for op, word in zip(("Read", "Write"), words):
                into.append(_entry(device, op, int(values.get(word, 0))))
    return {"ioServiceBytesRecursive": size, "ioServicedRecursive": count}


def _first(path: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """`8:0 Read 4096` lines of the first of these files that is there and has any."""
    for name in names:
        found = [
            _entry(device, fields[0], int(fields[1]))
            for device, fields in _lines(f"{path}/{name}")
            if ":" in device and len(fields) == 2
        ]
        if found:
            return found
    return []


def _entry(device: str, op: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": op, "value": value}


def _huge_pages(place: CgroupPlacement) -> dict[str, Any]:
    v1 = place.v1_of("hugetlb")
    path = v1 or (place.v2 if "hugetlb" in place.v2_controllers else "")
    if not path:
        return {}
    now, peak = ("usage_in_bytes", "max_usage_in_bytes") if v1 else ("current", "max")
    found = {}
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        words = name.split(".")
        if len(words) == 3 and words[0] == "hugetlb" and words[2] == now:
            base = f"{path}/hugetlb.{words[1]}"
            failed = _number(f"{base}.failcnt") if v1 else _table(f"{base}.events").get("max", 0)
            found[words[1]] = {
                "usage": _number(f"{base}.{now}"),
                "max": _number(f"{base}.{peak}"),
                "failcnt": failed,
            }
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else _UNLIMITED if text == "max" else 0


def _numbers(path: str) -> list[int]:
    return [int(word) for word in _read(path).split() if word.isdecimal()]


def _table(path: str) -> Mapping[str, int]:
    """The `name number` lines of a file."""
    return {name: int(rest[0]) for name, rest in _lines(path) if len(rest) == 1 and rest[0].isdecimal()}


def _lines(path: str) -> list[tuple[str, list[str]]]:
    words = (line.split() for line in _read(path).splitlines())
    return [(first, rest) for first, *rest in (w for w in words if w)]
