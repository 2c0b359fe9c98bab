"""sd_notify(3) out of a container: its READY=1 reaches the service manager that started us.

A datagram socket of ours stands between. As with crun the container finds it in a directory that is named as the
manager's own socket is outside: `$NOTIFY_SOCKET/notify`. Only READY=1 is passed on (the rest speaks of processes that
the manager does not know), and after it who the main process is.
"""

from __future__ import annotations

import _socket
import array
import os
import select

from knarr.host import native
from knarr.oci.spec import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.spec import Spec
    from knarr.runtime.state_dir import Container, StateDir

VARIABLE = "NOTIFY_SOCKET"
_NAME = "notify"
_ABSTRACT = "/run/notify"  # where it is inside, when the manager's is no file
_BARRIER_MS = 30_000  # sd_notify_barrier(3): how long a manager may take
_LARGEST = 4096


def with_socket(spec: Spec, directory: StateDir, manager: str) -> Spec:
    """The specification with the directory, which is made here, and the variable."""
    os.mkdir(directory.notify, 0o755)
    inside = manager if manager.startswith("/") else _ABSTRACT
    mount = Mount(inside, directory.notify, "bind", ("bind", "ro", "nosuid", "noexec", "nodev"))
    process = spec.process and spec.process._replace(env=(*spec.process.env, f"{VARIABLE}={inside}/{_NAME}"))
    return spec._replace(mounts=(*spec.mounts, mount), process=process)


class Notices:
    """What the container says, from before it is started."""

    def __init__(self, directory: StateDir, manager: str) -> None:
        self._manager = f"\0{manager[1:]}" if manager.startswith("@") else manager
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        # Reached by descriptor: the path may be longer than the address of a socket.
        at = os.open(directory.notify, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{at}/{_NAME}"
            self._socket.bind(path)
            os.chmod(path, 0o777)  # whoever the process is inside
        finally:
            os.close(at)

    def wait(self, container: Container, main_pid: int, warn: Callable[[str], None]) -> None:
        """Until the container is ready, or has ended, and the manager has been told."""
        pidfd = native.open_process(container.pid, container.pid_start)
        try:
            if self._ready(pidfd):
                self._tell(main_pid)
        except OSError as e:
            warn(
                f"cannot tell the service manager that the container is ready: {(e.strerror or str(e)).lower()}"
            )
        finally:
            if pidfd is not None:
                os.close(pidfd)
            self._socket.close()

    def attend(self, container: Container, warn: Callable[[str], None]) -> None:
        """The same beside whoever stays in front of the container, which is the manager's main process then."""
        import _thread

        _thread.start_new_thread(self.wait, (container, os.getpid(), warn))

    def _ready(self, pidfd: int | None) -> bool:
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll(None if pidfd is not None else 0)]
            if self._socket.fileno() in ready:
                if b"READY=1" in self._socket.recv(_LARGEST).split(b"\n"):
                    return True
            elif ready or pidfd is None:
                return False

    def _tell(self, main_pid: int) -> None:
        manager = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            manager.connect(self._manager)
            manager.send(b"READY=1")
            manager.send(b"MAINPID=%d" % main_pid)
            _barrier(manager)
        finally:
            manager.close()


def _barrier(manager: _socket.socket) -> None:
    """Wait until the manager has read what was sent: it looks at the sender, who must not have ended by then."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", (theirs,)))
        manager.sendmsg([b"BARRIER=1"], [rights])
        os.close(theirs)
        theirs = -1
        poll = select.poll()
        poll.register(ours, select.POLLIN)
        poll.poll(_BARRIER_MS)
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
