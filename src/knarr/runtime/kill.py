"""`kill`: a signal for the container's first process, or for all of its processes (runtime.md, Kill)."""

from __future__ import annotations

import os

from knarr.errors import Conflict
from knarr.host import native
from knarr.host.cgroups import processes, thaw
from knarr.runtime.status import CREATED, PAUSED, RUNNING, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime.state_dir import Container, StateDir

SIGKILL = 9


def kill(directory: StateDir, number: int, *, everything: bool = False) -> None:
    """Raises `NotFound`, and `Conflict` for a container that neither waits nor runs.

    Without a pid namespace of its own the end of the first process is not the end of the others: `SIGKILL` is for all.
    """
    container = directory.container()
    status = status_of(directory, container)
    if container is None or status not in (CREATED, RUNNING, PAUSED):
        # Without a pid namespace others may have outlived the first one.
        if container and (everything or (number == SIGKILL and _left(container))):
            _signal_all(container, number)
            return
        raise Conflict(f"cannot kill container {directory.id!r}: container not running")
    if everything or (number == SIGKILL and _shares_pids(container)):
        _signal_all(container, number)
    pidfd = native.open_process(container.pid, container.pid_start)
    if pidfd is None:
        return
    try:
        native.signal_process(pidfd, number)
    finally:
        os.close(pidfd)
    if number == SIGKILL and status == PAUSED:
        thaw(container.place.freezer_file.rpartition("/")[0])  # a frozen process dies when it goes on


def _shares_pids(container: Container) -> bool:
    try:
        return os.readlink(f"/proc/{container.pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


def _left(container: Container) -> bool:
    return bool(container.place.main) and bool(processes(container.place.main))


def _signal_all(container: Container, number: int) -> None:
    """Everything in its cgroup but the first process, which has its turn by itself."""
    if not container.place.main:
        return
    for pid in processes(container.place.main):
        if pid == container.pid:
            continue
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
