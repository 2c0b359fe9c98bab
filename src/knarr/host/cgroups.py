"""What the kernel says about a cgroup: its processes, what they use, whether they are frozen; and freezing them.

A path is the cgroup's directory, v1 or v2: which of the two is seen by the files in it. Making, limiting and removing
cgroups are steps of a plan (`knarr.plan.cgroup`).
"""

from __future__ import annotations

import errno
import os
import time

from knarr.errors import HostError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FREEZE_S = 5.0
_UNLIMITED = 1 << 62  # v1 says PAGE_COUNTER_MAX, a little below 2^63, for "no limit"


class Usage(Record):
    """What a container's cgroups have counted; None where no cgroup of its own counts it."""

    cpu_ns: int | None = None
    memory_bytes: int | None = None  # without inactive page cache, as docker counts
    memory_limit_bytes: int | None = None
    pids: int | None = None
    oom_kills: int | None = None


def processes(path: str) -> list[int]:
    """Pids in the cgroup and in those below it; empty when it is gone."""
    pids: dict[int, None] = {}
    for directory, _, _ in os.walk(path):
        for name in ("cgroup.procs", "cgroup.threads"):
            try:
                text = _read(f"{directory}/{name}")
            except OSError as e:
                if e.errno == errno.EOPNOTSUPP:
                    continue  # a threaded cgroup of v2 only lists threads
                break
            pids.update((pid, None) for pid in map(int, text.split()) if pid > 0)
            break
    return list(pids)


def populated(path: str) -> bool:
    """Is any process in the cgroup or below it."""
    try:
        return _value(f"{path}/cgroup.events", "populated") == 1
    except FileNotFoundError:
        return bool(processes(path))


def alone_in(path: str) -> bool:
    """Is this process the only one in the v2 cgroup itself (not below it)."""
    try:
        return _read(f"{path}/cgroup.procs").split() == [str(os.getpid())]
    except OSError:
        return False


def entrance(path: str, process: str) -> str:
    """Where another process can start that belongs into a v2 cgroup: one whose children were given controllers (systemd
    or docker inside a container did that) takes none, so then it is the one below that `process` is in now.

    `process` is the directory in /proc of a process that began in the cgroup.
    """
    try:
        if not _read(f"{path}/cgroup.subtree_control").strip():
            return path
        with open(f"{process}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
    except (OSError, StopIteration):
        return path
    # `own` is seen from our cgroup namespace, `path` from the mount: as much of its end as both have in common.
    names = path.split("/")
    for first in range(1, len(names)):
        _, found, below = f"{own}/".partition(f"/{'/'.join(names[first:])}/")
        if found:
            below = below.rstrip("/")
            return f"{path}/{below}" if below and ".." not in below.split("/") else path
    return path


def delegated(path: str) -> bool:
    """Has systemd handed this cgroup to what runs in it. (`user.delegate` since systemd 251; the other is for root.)"""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


# What an administrator limits a unit with. A file says `max`, or nothing at all, where there is no limit.
_LIMITS = ("memory.max", "memory.high", "memory.swap.max", "cpu.max", "pids.max", "cpuset.cpus", "io.max")


def limits(path: str) -> dict[str, str]:
    """The limits that are set on a v2 cgroup itself, as its files say them."""
    found = {}
    for name in _LIMITS:
        try:
            text = " ".join(_read(f"{path}/{name}").split())
        except OSError:
            continue  # a controller that it does not have
        if text and not text.startswith("max"):
            found[name] = text
    return found


def freeze(path: str) -> None:
    """Stop every process of the cgroup; returns when all of them have stopped. Raises `HostError`."""
    try:
        if os.path.exists(f"{path}/cgroup.freeze"):
            _freeze_v2(path)
        else:
            _freeze_v1(path)
    except OSError as e:
        raise _refused("freeze", path, e) from e


def thaw(path: str) -> None:
    """Let the processes of a frozen cgroup go on. Raises `HostError`."""
    try:
        if os.path.exists(f"{path}/cgroup.freeze"):
            _write(f"{path}/cgroup.freeze", "0")
        else:
            _write(f"{path}/freezer.state", "THAWED")
    except OSError as e:
        raise _refused("thaw", path, e) from e


def frozen(path: str) -> bool:
    """Has the cgroup been frozen. A cgroup that is gone is not."""
    try:
        return _read(f"{path}/cgroup.freeze").strip() == "1"
    except OSError:
        pass
    try:
        # The cgroup's own wish: a cgroup whose parent is frozen says FROZEN too, and was not paused by anybody.
        return _read(f"{path}/freezer.self_freezing").strip() == "1"
    except OSError:
        return False


def _freeze_v2(path: str) -> None:
    _write(f"{path}/cgroup.freeze", "1")
    deadline = time.monotonic() + _FREEZE_S
    while _value(f"{path}/cgroup.events", "frozen") != 1:
        if time.monotonic() > deadline:
            _write(f"{path}/cgroup.freeze", "0")
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        time.sleep(0.001)


def _freeze_v1(path: str) -> None:
    """FREEZING stays when a process was added meanwhile, or waits for one that cannot be stopped just then (a vfork's
    parent): writing FROZEN again takes it further, and now and then only thawing for a moment lets it out."""
    state = f"{path}/freezer.state"
    deadline = time.monotonic() + _FREEZE_S
    tries = 0
    while True:
        _write(state, "FROZEN")
        if _read(state).strip() == "FROZEN":
            return
        tries += 1
        if time.monotonic() > deadline:
            _write(state, "THAWED")
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        if tries % 50 == 0:
            _write(state, "THAWED")
        time.sleep(0.001 if tries < 20 else 0.01)


def usage(paths: Sequence[str]) -> Usage:
    """What the cgroups at these paths (one on v2, one per controller on v1) have counted together."""
    found: dict[str, int] = {}
    for path in paths:
        for field, read in _COUNTERS:
            if field not in found and (value := read(path)) is not None:
                found[field] = value
    return Usage(**found)


def oom_kills(path: str) -> int | None:
    """How many processes of this memory cgroup were killed for want of memory; None when it does not count."""
    for name in ("memory.events", "memory.oom_control"):
        try:
            return _value(f"{path}/{name}", "oom_kill")
        except OSError:
            continue
    return None


def _cpu_ns(path: str) -> int | None:
    value = _integer(f"{path}/cpuacct.usage")
    if value is None:
        try:
            microseconds = _value(f"{path}/cpu.stat", "usage_usec")  # v1's cpu.stat has no such line
        except OSError:
            return None
        return None if microseconds is None else microseconds * 1000
    return value


def _memory(path: str) -> int | None:
    for total, inactive in (
        ("memory.current", "inactive_file"),
        ("memory.usage_in_bytes", "total_inactive_file"),
    ):
        used = _integer(f"{path}/{total}")
        if used is not None:
            try:
                return max(0, used - (_value(f"{path}/memory.stat", inactive) or 0))
            except OSError:
                return used
    return None


def _memory_limit(path: str) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _integer(f"{path}/{name}")
        if limit is not None and limit < _UNLIMITED:
            return limit
    return None


def _pids(path: str) -> int | None:
    return _integer(f"{path}/pids.current")


_COUNTERS = (
    ("cpu_ns", _cpu_ns),
    ("memory_bytes", _memory),
    ("memory_limit_bytes", _memory_limit),
    ("pids", _pids),
    ("oom_kills", oom_kills),
)


def _value(path: str, key: str) -> int | None:
    """The number in a `key number` line. Raises `OSError`."""
    for line in _read(path).split("\n"):
        words = line.split()
        if len(words) == 2 and words[0] == key:
            return int(words[1])
    return None


def _integer(path: str) -> int | None:
    try:
        text = _read(path).strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _refused(what: str, path: str, e: OSError) -> HostError:
    return HostError(f"cannot {what} cgroup {path}: {os.strerror(e.errno or 0).lower()}")
