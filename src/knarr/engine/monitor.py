"""The door to a container's monitor: starting it, hearing how the start went, talking to it later.

docs/native.md says what the monitor does. Descriptors are handed over by number; all others close on exec.
"""

from __future__ import annotations

import _socket
import os

from knarr.errors import HostError, KnarrError
from knarr.host import native
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from knarr.plan.step import Step


CONSOLE_FD = 3  # where the monitor puts the console socket for the container's process (docs/native.md)


class MonitorRequest(Record):
    """What a monitor is started with. `words` are its KEY=VALUE arguments that are not descriptors; `teardown`
    is the path of a plan in wire form, "" for none."""

    steps: Sequence[Step]
    words: tuple[str, ...]
    teardown: str = ""
    listen: int = -1
    lock: int = -1  # held until the tear-down is done
    hold: tuple[int, ...] = ()
    relayed: Mapping[int, int] = {}  # of those: sockets that are relayed to this port of the container
    primary: bool = False


class Launched(Record):
    """A monitor on its way: its reports come over `status`."""

    steps: Sequence[Step]
    monitor_pid: int
    status: _socket.socket
    connection: int


class Started(Record):
    """`connection` is the foreground's attach connection, -1 without one."""

    pid: int
    connection: int
    monitor_pid: int


def start(
    request: MonitorRequest,
    *,
    on_pause: Callable[[str, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Started:
    """Launch a monitor and wait until the workload has been executed. Raises the failed step's error."""
    return await_start(launch(request), on_pause=on_pause, on_warning=on_warning)


def launch(request: MonitorRequest) -> Launched:
    """Start a monitor. It has everything it was given from here on; the listening socket is closed on our side."""
    plan = native.plan_fd(request.steps)  # may refuse: nothing is open yet
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    words = [f"plan={plan}", f"status={far.fileno()}"]
    ours = [plan]
    fds = [far.fileno(), *request.hold]
    connection = -1
    primary = None
    try:
        if request.teardown:
            ours.append(os.open(request.teardown, os.O_RDONLY | os.O_CLOEXEC))
            words.append(f"teardown={ours[-1]}")
        if request.lock >= 0:
            words.append(f"lock={request.lock}")
            fds.append(request.lock)
        if request.listen >= 0:
            words.append(f"listen={request.listen}")
            ours.append(request.listen)
        if request.primary:
            front, primary = _socket.socketpair(
                _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            )
            words.append(f"primary={primary.fileno()}")
            fds.append(primary.fileno())
            connection = front.detach()
        if request.hold:
            relayed = request.relayed
            words.append(
                "hold=" + ",".join(f"{n}:{relayed[n]}" if n in relayed else str(n) for n in request.hold)
            )
        argv = (native.program(), "monitor", *words, *request.words)
        monitor_pid = native.spawn(argv, {fd: fd for fd in (*fds, *ours)})
    except BaseException:
        near.close()
        if connection >= 0:
            os.close(connection)
        raise
    finally:
        for fd in ours:
            os.close(fd)
        far.close()
        if primary is not None:
            primary.close()
    return Launched(request.steps, monitor_pid, near, connection)


def await_start(
    launched: Launched,
    *,
    on_pause: Callable[[str, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Started:
    """Hear how the start goes. `on_pause` does the engine's part of a `pause` step, given its label and the pid.

    Raises the failed step's error, after the monitor has torn everything down.
    """
    try:
        pid = _listen(launched.status, launched.steps, on_pause, on_warning)
    except BaseException:
        if launched.connection >= 0:
            os.close(launched.connection)
        launched.status.close()
        reap(launched.monitor_pid)
        raise
    launched.status.close()
    return Started(pid, launched.connection, launched.monitor_pid)


def _listen(
    status: _socket.socket,
    steps: Sequence[Step],
    on_pause: Callable[[str, int], None] | None,
    on_warning: Callable[[str], None],
) -> int:
    pid = 0
    while True:
        report = status.recv(native.REPORT_BYTES)
        word, _, rest = report.partition(b" ")
        if word == b"pid":
            pid = int(rest)
        elif word == b"warn":
            on_warning(native.warning(steps, report))
        elif word == b"fail":
            raise native.failure(steps, report)
        elif word == b"pause":
            label, _, paused_pid = rest.rpartition(b" ")
            if on_pause is not None:
                on_pause(label.decode(), int(paused_pid))
            status.send(b"go")
        elif word == b"started":
            return pid
        elif not report:
            raise HostError("the container's monitor ended before the container was started")
        else:
            raise KnarrError(f"the monitor says what nobody understands: {report[:80]!r}")


def reap(pid: int) -> None:
    """Wait for a monitor that is tearing down after a failed start, so that nothing is left when we report it."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def connect(path: str) -> int:
    """A connection to a running monitor's socket. Raises `FileNotFoundError`, `ConnectionRefusedError`."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        # sun_path holds 108 bytes; a state directory may be deeper than that.
        connection.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection.detach()


def listen(path: str) -> int:
    """A listening socket at `path`, only for its owner."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_CLOEXEC)
    try:
        name = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        old = os.umask(0o177)
        try:
            listener.bind(name)
        finally:
            os.umask(old)
        listener.listen(16)
    finally:
        os.close(directory)
    return listener.detach()


def become_front(connection: int, words: Sequence[str]) -> None:
    """Replace this process by the foreground client: it relays, and exits as the container does. Does not return."""
    os.set_inheritable(connection, True)
    program = native.program()
    os.execv(program, [program, "attach", str(connection), *words])


def front_words(*, tty: bool, stdin: bool, keys: str, sig_proxy: bool) -> tuple[str, ...]:
    """The words of `knarr-native attach` after the descriptor."""
    words = [("tty", tty), ("nostdin", not stdin), (f"keys={keys}", bool(keys)), ("sigproxy", sig_proxy)]
    return tuple(word for word, wanted in words if wanted)
