"""The descriptors that cross into a container: what its workload keeps, and what its set-up is handed beside that."""

from __future__ import annotations

import _socket
import os

from knarr.errors import HostError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PIDFD_RECEIVER = "run.oci.pidfd_receiver"  # the annotation of crun that names a socket for it
FIRST = 3  # after the standard ones
_OURS = 64  # more than a set-up is ever handed


class Handed:
    """{number in the container's process: our descriptor}, for `knarr.host.launch`."""

    __slots__ = ("_next", "map")

    def __init__(self, preserved: int) -> None:
        highest = os.sysconf("SC_OPEN_MAX")
        if not 0 <= preserved < highest - _OURS:
            raise UsageError(f"{preserved} descriptors cannot be preserved")
        self._next = FIRST + preserved
        # Those that the caller meant to pass on; ours in that range close on exec.
        self.map = {fd: fd for fd in range(FIRST, self._next) if _inheritable(fd)}

    def give(self, ours: int) -> int:
        """The number under which the set-up finds one of our descriptors; -1 for -1."""
        if ours < 0:
            return -1
        self.map[self._next] = ours
        self._next += 1
        return self._next - 1


def _inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def descriptors_of(pid: int) -> tuple[str, ...]:
    """What a process's standard descriptors lead to: `pipe:[123]`, `/dev/null`."""
    try:
        return tuple(os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3))
    except OSError:
        return ()


def listening(environ: Mapping[str, str]) -> int:
    """How many sockets the service manager has handed us (sd_listen_fds(3)); they are the workload's."""
    text = environ.get("LISTEN_FDS", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


def send_pidfd(path: str, pid: int) -> None:
    """Hand a process to whoever listens on a stream socket, as a pidfd (SCM_RIGHTS). Raises `HostError`."""
    import array

    pidfd = os.pidfd_open(pid)
    connection = connect(path, "pidfd socket")
    receiver = _socket.socket(fileno=connection)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [pidfd]))
        receiver.sendmsg([b"pidfd"], [rights])
    except OSError as e:
        raise HostError(f"cannot send to the pidfd socket {path}: {(e.strerror or str(e)).lower()}") from e
    finally:
        receiver.close()
        os.close(pidfd)


def connect(path: str, what: str) -> int:
    """A connection to a stream socket of the caller's. Raises `HostError`."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except OSError as e:
        connection.close()
        raise HostError(f"cannot connect to the {what} {path}: {(e.strerror or str(e)).lower()}") from e
    return connection.detach()
