"""`delete`: a container that has ended goes, with everything that was made for it (runtime.md, Lifecycle, 12, 13)."""

from __future__ import annotations

import os
import time

from knarr.errors import Conflict, KnarrError, NotFound
from knarr.host import native
from knarr.plan import cgroup
from knarr.plan.step import Step
from knarr.runtime.state_dir import StateDir
from knarr.runtime.status import CREATED, CREATING, STOPPED, alive, state_document, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knarr.oci.spec import Hooks
    from knarr.runtime.state_dir import Container

_SIGKILL = 9
_PATIENCE_S = 10.0


def delete(directory: StateDir, *, force: bool, warn: Callable[[str], None]) -> None:
    """Remove a container that has stopped, or was never started; any with `force`. Raises `NotFound`, `Conflict`."""
    container = None
    try:
        container = directory.container()
    except KnarrError:
        if not force or not directory.exists():
            raise
    status = status_of(directory, container)
    if status == CREATING and not force:
        raise Conflict(f"container {directory.id!r} is being created")
    if status not in (STOPPED, CREATED, CREATING) and not force:
        raise Conflict(
            f"cannot delete container {directory.id!r} that is not stopped: {status}",
            hint=f"`knarr-runtime delete --force {directory.id}` kills it first",
        )
    lock = directory.lock()
    try:
        # Whoever had the lock may have finished what it was making.
        container = directory.container() if container is None and status == CREATING else container
        if container and status != STOPPED:
            kill_init(container)
        destroy(directory, container, _hooks(directory), warn)
    finally:
        os.close(lock)


def after_its_end(
    directory: StateDir, container: Container, hooks: Hooks | None, warn: Callable[[str], None]
) -> None:
    """Destroy a container that has ended, unless somebody else has, who may have made another of that id."""
    try:
        lock = directory.lock()
    except NotFound:
        return
    try:
        now = directory.container()
        if now and (now.pid, now.pid_start) == (container.pid, container.pid_start):
            destroy(directory, container, hooks, warn)
    finally:
        os.close(lock)


def _hooks(directory: StateDir) -> Hooks | None:
    try:
        return directory.spec().hooks
    except KnarrError:
        return None


def destroy(
    directory: StateDir, container: Container | None, hooks: Hooks | None, warn: Callable[[str], None]
) -> None:
    """Undo what was made: what is left of its processes, its cgroups, its directory. The caller holds the lock."""
    if container:
        remove_cgroups(container, warn)
        _detach_mounts(container)
        if container.rdt_made:
            native.execute([Step("rmdir", (path,), "linux.intelRdt", True) for path in container.rdt_made])
    directory.remove()
    if container and hooks and hooks.poststop:
        from knarr.runtime.hooks import run_hooks_anyway

        state = state_document(container, STOPPED)
        run_hooks_anyway("poststop", hooks.poststop, state, container, warn)


def _detach_mounts(container: Container) -> None:
    """A container without a mount namespace has mounted on the host, all of it on a mount of ours over its root."""
    if container.host_mount and mount_id(container.rootfs) not in (0, container.host_mount):
        native.execute([Step("umount", (container.rootfs,), "root.path")])


def mount_id(path: str) -> int:
    """The id of the mount that a path is in (proc_pid_fdinfo(5)); 0 for a path that is not there."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            return next(int(line[7:]) for line in file if line.startswith("mnt_id:"))
    finally:
        os.close(fd)


def kill_init(container: Container) -> None:
    """Kill the container's first process and wait until it has ended, or is its parent's to wait for."""
    from knarr.host.cgroups import thaw

    pidfd = native.open_process(container.pid, container.pid_start)
    if pidfd is None:
        return
    try:
        native.signal_process(pidfd, _SIGKILL)
        freezer = container.place.freezer_file
        if freezer and os.path.exists(freezer):
            thaw(freezer.rpartition("/")[0])  # a frozen process dies when it goes on
        deadline = time.monotonic() + _PATIENCE_S
        while alive(container.pid, container.pid_start) and not native.wait_process(pidfd, 0.1):
            if time.monotonic() > deadline:
                raise Conflict(f"container {container.id!r} does not end after SIGKILL")
    finally:
        os.close(pidfd)


def remove_cgroups(container: Container, warn: Callable[[str], None]) -> None:
    """Raises `HostError` when processes in them do not end."""
    steps = tuple(cgroup.teardown_steps(container.place))
    if steps and not _removed(steps):
        native.execute(steps)
    if container.place.scope:
        from knarr.runtime import scope

        scope.stop(container.place, user=container.users_systemd, warn=warn)


def _removed(steps: Sequence[Step]) -> bool:
    """Are they gone by being removed, as empty ones are: nothing then has to be killed, and no executor started."""
    if any(step.op not in ("cgroup-kill", "rmdir") for step in steps):
        return False
    for step in steps:
        if step.op != "rmdir":
            continue
        try:
            os.rmdir(step.args[0])
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
