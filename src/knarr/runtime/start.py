"""`start`: let a created container's process execute its program (runtime.md, Lifecycle, steps 8 and 9)."""

from __future__ import annotations

import os
import select

from knarr.errors import Conflict, KnarrError, UsageError
from knarr.host import native
from knarr.runtime.ahead import SAID
from knarr.runtime.status import CREATED, PAUSED, RUNNING, state_document, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.spec import Hooks
    from knarr.runtime.state_dir import Container, StateDir


_LOOK_MS = 100


def start(directory: StateDir, warn: Callable[[str], None], notify_socket: str = "") -> None:
    """Raises `Conflict` for a container that is not waiting for it, and what a failing step raises.

    The end of the FIFO says that the program was executed; a report in it, which step has failed. With a service
    manager's socket that the container was made for it returns when the container is ready.
    """
    notices = None
    lock = directory.lock()
    try:
        container = directory.container()
        status = status_of(directory, container)
        said = directory.take(SAID)
        if container is None or (status != CREATED and not said):
            raise Conflict(_refusal(directory.id, status))
        text = directory.config()
        if b'"process"' not in text and directory.spec().process is None:
            raise UsageError(
                "process: is required to start a container", hint="delete it, and create it anew"
            )
        if notify_socket and os.path.isdir(directory.notify):
            from knarr.runtime.notify import Notices

            notices = Notices(directory, notify_socket)
        report = said or _let_go(directory, container)
        directory.started()
        for line in report.split(b"\0"):
            if line.startswith(b"warn "):
                warn(native.warning(native.from_wire(directory.plan()), line))
            elif line.startswith(b"fail "):
                raise native.failure(native.from_wire(directory.plan()), line)
        if b'"poststart"' in text:  # cheaper than decoding a specification that nearly never has any
            poststart(directory, container, directory.spec().hooks, warn)
    finally:
        os.close(lock)
    if notices:
        notices.wait(container, container.pid, warn)  # without the lock: it may take as long as it likes


def _refusal(container_id: str, status: str) -> str:
    if status == PAUSED:
        return f"cannot start a paused container: {container_id!r}"
    if status == RUNNING:
        return f"cannot start container {container_id!r}: it is already running"
    return f"cannot start a container that has stopped: {container_id!r}"


def _let_go(directory: StateDir, container: Container) -> bytes:
    """Open the FIFO for reading: the container's process goes on. What it has to say until it is another program."""
    pidfd = native.open_process(container.pid, container.pid_start)
    if pidfd is None:
        raise Conflict(_refusal(directory.id, ""))
    # Without blocking: it may die before it comes to the FIFO.
    fifo = os.open(directory.fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fifo, select.POLLIN | select.POLLHUP)
        poll.register(pidfd, select.POLLIN)
        said = b""
        while True:
            ready = dict(poll.poll(_LOOK_MS))
            if not ready and not directory.waits():  # let go by a command that was killed: nobody will write
                raise Conflict(_refusal(directory.id, RUNNING))
            if fifo in ready:
                part = os.read(fifo, 4096)
                if not part:
                    return said
                said += part
            elif pidfd in ready:
                if said:
                    return said
                raise Conflict(f"container {directory.id!r} ended before it was started")
    finally:
        os.close(fifo)
        os.close(pidfd)


def poststart(
    directory: StateDir, container: Container, hooks: Hooks | None, warn: Callable[[str], None]
) -> None:
    """The hooks after the program was executed. When one fails the container is stopped and destroyed, and the error
    raised. The caller holds the lock."""
    if not hooks or not hooks.poststart:
        return
    from knarr.runtime.delete import destroy, kill_init
    from knarr.runtime.hooks import run_hooks

    try:
        run_hooks("poststart", hooks.poststart, state_document(container, RUNNING), container)
    except KnarrError:
        kill_init(container)
        destroy(directory, container, hooks, warn)
        raise
