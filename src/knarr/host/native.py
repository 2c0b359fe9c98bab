"""The doors to `knarr-native`: hand it a plan, start it, read what it reports, and say it in the user's words.

Nothing here knows what a container is. A plan goes over in a sealed memfd (it cannot change between being
printed and being executed), a report comes back as one short message, and `failure` turns step number and errno into
`mounts[3]: mount /data: no such file or directory`.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os

from knarr.errors import CommandNotExecutable, CommandNotFound, DataError, HostError, KnarrError, StepFailed
from knarr.plan.step import MAGIC, VERSION, Step, shown, to_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

REPORT_BYTES = 64 * 1024

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
# Python ignores these, and what is ignored stays ignored across exec: a workload must get them as it expects.
_DEFAULT_SIGNALS = (13, 25)  # SIGPIPE, SIGXFSZ; the `signal` module costs an `enum`


def program() -> str:
    """The path of knarr-native: $KNARR_NATIVE, or the one in the package. Raises `HostError` when it is absent."""
    path = os.environ.get("KNARR_NATIVE") or _PACKAGED
    if not os.access(path, os.X_OK):
        raise HostError(
            f"{path}: the native program is not there",
            hint="build it with `make native`, or install knarr again",
        )
    return path


_PACKAGED = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/_native/knarr-native"


def sealed(name: str, data: bytes) -> int:
    """A memory file of these bytes that nobody can change any more, read from its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def plan_fd(steps: Sequence[Step]) -> int:
    """A sealed memory file with the plan. The caller closes it."""
    return sealed("knarr-plan", to_wire(steps))


def spawn(
    argv: Sequence[str],
    fds: Mapping[int, int],
    *,
    env: Mapping[str, str] | None = None,
    session: bool = False,
) -> int:
    """Start a program; the pid of the child, which the caller waits for.

    `fds` says which descriptor the child finds under which number: {child's: ours}. 0, 1 and 2 are inherited
    when they are not named; everything else is closed in it. No signal is blocked in it, none
    that Python ignores is ignored; `session` makes it the leader of a new session. Raises `HostError`.
    """
    actions: list[tuple[int, ...]] = []
    moved: list[int] = []
    try:
        # A source that is another's target would be overwritten before its turn: out of the way first.
        above = max([2, *fds]) + 1
        for target, source in fds.items():
            if source in fds and source != target:
                source = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, above)
                moved.append(source)
            # dup2 onto itself clears close-on-exec in a spawn (POSIX.1-2024, posix_spawn_file_actions_adddup2).
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        highest = os.sysconf("SC_OPEN_MAX")
        for fd in _inheritable():
            if fd >= highest:  # left open by a caller that lowered the limit since: refused as an action
                os.set_inheritable(fd, False)
            elif fd > 2 and fd not in fds:
                actions.append((os.POSIX_SPAWN_CLOSE, fd))
        return os.posix_spawn(
            argv[0],
            list(argv),
            os.environ if env is None else env,
            file_actions=actions,
            setsid=session,
            setsigdef=_DEFAULT_SIGNALS,
            setsigmask=(),
        )
    except OSError as e:
        raise HostError(f"cannot start {argv[0]}: {strerror(e.errno or 0)}") from e
    finally:
        for fd in moved:
            os.close(fd)


def _inheritable() -> list[int]:
    """Descriptors that would leak into a child. Our own never do (PEP 446); those our caller left open would."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError:
            pass  # the directory's own descriptor, closed by now
    return found


def execute(steps: Sequence[Step], *, pass_fds: Collection[int] = ()) -> int:
    """Execute a plan and wait for it: 0, or what the plan's `exec` ended with (128 + signal).

    Descriptors in `pass_fds` keep their numbers, so that a step can name them. Raises `StepFailed`,
    `CommandNotFound`, `CommandNotExecutable`. Warnings of optional steps are dropped: see `execute_verbose`.
    """
    return execute_verbose(steps, pass_fds=pass_fds)[0]


def execute_verbose(steps: Sequence[Step], *, pass_fds: Collection[int] = ()) -> tuple[int, list[str]]:
    """As `execute`, with the warnings of optional steps that failed."""
    plan = plan_fd(steps)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        own = (plan, theirs.fileno())
        pid = spawn([program(), "init", *map(str, own), "wait"], {fd: fd for fd in (*own, *pass_fds)})
        theirs.close()
        failed: KnarrError | None = None
        warnings = []
        try:
            while report := ours.recv(REPORT_BYTES):
                if report.startswith(b"fail "):
                    failed = failure(steps, report)
                elif report.startswith(b"warn "):
                    warnings.append(warning(steps, report))
        except BaseException:
            os.kill(pid, 15)
            raise
        finally:
            status = wait_for(pid)
    finally:
        os.close(plan)
        ours.close()
        theirs.close()
    if failed:
        raise failed
    if status and not any(step.op == "exec" for step in steps):
        raise HostError(f"the executor ended with {status} before it had finished")
    return status, warnings


def execute_file(path: str, *, rootless: bool = False) -> None:
    """Execute a plan that was put away in its wire form: a container's tear-down. Absent is fine.

    `rootless`: steps that do not belong to the host (their origin does not begin with `host`) may need the rights of a
    mapped user, and are executed as root of a user namespace like the container's.
    """
    try:
        with open(path, "rb") as file:
            steps = from_wire(file.read())
    except FileNotFoundError:
        return
    if not rootless:
        execute(steps)
        return
    from knarr.host.userns import execute_in_userns

    group: list[Step] = []
    for step in [*steps, None]:
        # Runs of steps of one side, in the plan's order.
        if group and (step is None or _of_host(step) != _of_host(group[0])):
            (execute if _of_host(group[0]) else execute_in_userns)(group)
            group = []
        if step is not None:
            group.append(step)


def _of_host(step: Step) -> bool:
    return step.origin.startswith("host")


def from_wire(data: bytes) -> list[Step]:
    """The steps of a plan in wire form (`knarr.plan.step`). Raises `DataError`."""
    fields = data.decode("utf-8", "surrogateescape").split("\0")
    try:
        if fields[:2] != [MAGIC, str(VERSION)]:
            raise ValueError(fields[:2])
        steps, at = [], 3
        for _ in range(int(fields[2])):
            op, flags, origin, count = fields[at : at + 4]
            end = at + 4 + int(count)
            if int(count) < 0 or end >= len(fields):
                raise ValueError(count)
            steps.append(Step(op, tuple(fields[at + 4 : end]), origin, flags == "?"))
            at = end
    except (ValueError, IndexError) as e:
        raise DataError("a stored plan is damaged") from e
    return steps


def wait_for(pid: int) -> int:
    """Wait for a child; its exit code, 128 + signal when a signal ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def failure(steps: Sequence[Step], report: bytes) -> KnarrError:
    """A `fail STEP ERRNO TEXT` report as the error a user reads: the specification's place, what was tried, why not."""
    from knarr.host.phrases import hint, printable

    step, number, text = _parse(steps, report)
    if step is None:
        return StepFailed(printable(text) or strerror(number), errno=number)
    if step.op in ("exec", "find-command"):
        command = step.args[0] if step.args else ""
        if number == errno.ENOENT:
            where = "no such file or directory" if "/" in command else "executable file not found in $PATH"
            return CommandNotFound(f"exec {shown(command)}: {where}", hint=hint(step, number))
        if number in (errno.EACCES, errno.ENOEXEC, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELIBBAD):
            return CommandNotExecutable(f"exec {shown(command)}: {strerror(number)}", hint=hint(step, number))
    return StepFailed(_sentence(step, number, text), errno=number, hint=hint(step, number))


def warning(steps: Sequence[Step], report: bytes) -> str:
    """A `warn STEP ERRNO` report: what was not done, and why."""
    step, number, text = _parse(steps, report)
    from knarr.host.phrases import printable

    return _sentence(step, number, text) if step else printable(text) or strerror(number)


def strerror(number: int) -> str:
    """The kernel's reason as part of a sentence."""
    return os.strerror(number).lower()


def _sentence(step: Step, number: int, text: str) -> str:
    """`origin: what was tried: why not`. TEXT is a program's own words, or the part of the operation that failed."""
    from knarr.host.phrases import phrase, printable

    text = printable(text)
    origin = f"{printable(step.origin)}: " if step.origin else ""
    if step.op == "wait-spawned" and text:
        return f"{origin}{text}"
    if step.op == "hook":
        return f"{origin}{phrase(step)}: {text or strerror(number)}"
    if (step.op, number) == ("mount", errno.ELOOP):
        return (
            f"{origin}{phrase(step)}: must be mounted on ordinary directory, and a part of the path is a link"
        )
    reason = f"{text}: {strerror(number)}" if text and number else text or strerror(number)
    return f"{origin}{phrase(step)}: {reason}"


def _parse(steps: Sequence[Step], report: bytes) -> tuple[Step | None, int, str]:
    words = report.decode("utf-8", "replace").rstrip("\0\n").split(" ", 3)
    if len(words) < 3 or not words[1].removeprefix("-").isdecimal() or not words[2].isdecimal():
        return None, 0, f"the executor reported {report[:80]!r}"
    index, number = int(words[1]), int(words[2])
    text = " ".join(words[3].split()) if len(words) > 3 else ""
    return (steps[index] if 0 <= index < len(steps) else None), number, text


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot (field 22 of /proc/PID/stat); 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name (field 2) is the process's own choice and may hold blanks and parentheses.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return 0


def open_process(pid: int, start: int) -> int | None:
    """A pidfd of the process that began at `start`; None when it is gone, its pid recycled or not.

    The descriptor is taken before the time is read: afterwards it cannot come to mean another process.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError as e:
        if e.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise HostError(f"cannot open process {pid}: {strerror(e.errno or 0)}") from e
    if start_time(pid) != start or start == 0:
        os.close(fd)
        return None
    return fd


def wait_process(pidfd: int, timeout_s: float | None = None) -> bool:
    """Wait until the process of a pidfd has ended; False when the time is over first."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0, int(timeout_s * 1000))))


def signal_process(pidfd: int, number: int) -> bool:
    """Send a signal; False when the process has ended."""
    import _signal

    try:
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    except PermissionError as e:
        raise HostError(f"cannot signal the process: {strerror(e.errno or 0)}") from e
    return True
