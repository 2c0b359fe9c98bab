"""`events`: what a container uses, at intervals, and when it runs out of memory."""

from __future__ import annotations

import os
import select
import time

from knarr.errors import Conflict
from knarr.host import native
from knarr.host.cgroup_stats import statistics
from knarr.host.cgroups import oom_kills
from knarr.runtime.status import CREATED, PAUSED, RUNNING, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from knarr.plan.cgroup import CgroupPlacement
    from knarr.runtime.state_dir import Container, StateDir


def stats(directory: StateDir) -> dict[str, Any]:
    """One event with everything that was counted. Raises `NotFound`, `Conflict`."""
    return _stats(_running(directory))


def follow(directory: StateDir, interval_s: float) -> Iterator[dict[str, Any]]:
    """Events until the container ends: `stats` at each interval, `oom` when memory ran out and the kernel killed."""
    container = _running(directory)
    pidfd = native.open_process(container.pid, container.pid_start)
    if pidfd is None:
        return
    out_of_memory = _notifier(container.place)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if out_of_memory >= 0:
        poll.register(out_of_memory, select.POLLIN | select.POLLPRI)
    killed = _kills(container.place)
    yield _stats(container)
    due = time.monotonic() + interval_s
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(max(0.0, due - time.monotonic()) * 1000)}
            if out_of_memory in ready:
                os.pread(out_of_memory, 4096, 0) if _is_file(out_of_memory) else os.read(out_of_memory, 8)
            if (now := _kills(container.place)) > killed:
                killed = now
                yield {"type": "oom", "id": container.id}
            if pidfd in ready:
                return
            if time.monotonic() >= due:
                due += interval_s
                yield _stats(container)
    finally:
        os.close(pidfd)
        if out_of_memory >= 0:
            os.close(out_of_memory)


def _running(directory: StateDir) -> Container:
    container = directory.container()
    status = status_of(directory, container)
    if container is None or status not in (CREATED, RUNNING, PAUSED):
        raise Conflict(f"container {directory.id!r} is not running: {status}")
    return container


def _stats(container: Container) -> dict[str, Any]:
    return {"type": "stats", "id": container.id, "data": statistics(container.place)}


def _kills(place: CgroupPlacement) -> int:
    return oom_kills(place.oom_file.rpartition("/")[0]) or 0 if place.oom_file else 0


def _is_file(fd: int) -> bool:
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) == "memory.events"


def _notifier(place: CgroupPlacement) -> int:
    """A descriptor that becomes ready when memory ran out: v1's eventfd, v2's file itself (cgroup-v2.rst: a modified
    event is generated on it). -1 where nothing counts."""
    if not place.oom_file:
        return -1
    directory, _, name = place.oom_file.rpartition("/")
    try:
        file = os.open(place.oom_file, os.O_RDONLY | os.O_CLOEXEC)
        if name == "memory.events":
            os.pread(file, 4096, 0)  # what was so far is not news
            return file
        event = os.eventfd(0, os.EFD_CLOEXEC)
        try:
            control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(control, f"{event} {file}".encode())
            finally:
                os.close(control)
        finally:
            os.close(file)
    except OSError:
        return -1
    return event
