"""Start what a plan describes as a child of this process, hear how it goes, and stay in front of it.

The setter (S of docs/plan.md) is started and waited for; what it leaves is C, which is or will be the workload. C is a
child of this process, so whoever launches it may wait for it, and it goes to the next subreaper when this process ends.
"""

from __future__ import annotations

import _signal
import _socket
import os

from knarr.errors import HostError, KnarrError
from knarr.host import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from knarr.plan.step import Step

FORWARDED = frozenset((1, 2, 3, 10, 12, 15, 28))  # HUP INT QUIT USR1 USR2 TERM WINCH


def launch(
    steps: Sequence[Step],
    *,
    fds: Mapping[int, int] | None = None,
    plan: int = -1,
    on_pid: Callable[[int], None] = lambda pid: None,
    on_pause: Callable[[str, int], None] = lambda label, pid: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> int:
    """Execute a plan until its workload has been executed, or waits to be started (`wait-fifo`); the workload's pid.

    `fds` says which descriptor S and C find under which number: {theirs: ours}. `plan` is a descriptor with these steps
    when there is one already. What `on_pause` raises ends the start.
    Raises the failed step's error; no process is left then.
    """
    own = native.plan_fd(steps) if plan < 0 else plan
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    child, setter = 0, 0
    try:
        first = max((3, *(fd + 1 for fd in fds or ())))
        given = {**(fds or {}), first: own, first + 1: theirs.fileno()}
        setter = native.spawn([native.program(), "init", str(first), str(first + 1)], given)
        theirs.close()
        failed: KnarrError | None = None
        ready = False
        while not ready and (report := ours.recv(native.REPORT_BYTES)):
            word, _, rest = report.partition(b" ")
            if word == b"pid":
                child = int(rest)
                on_pid(child)
            elif word == b"fail":
                failed = native.failure(steps, report)
            elif word == b"warn":
                on_warning(native.warning(steps, report))
            elif word == b"pause":
                label, _, paused = rest.rpartition(b" ")
                on_pause(label.decode(), int(paused))
                ours.send(b"go")
            ready = word == b"ready"
        status = native.wait_for(setter)
        setter = 0
        if failed:
            raise failed
        if not child or status:
            raise HostError(f"the executor ended with {status} and started nothing")
    except BaseException:
        ours.close()  # S and C give up when nobody listens to them any more
        theirs.close()
        for pid in (setter, child):
            if pid:
                native.wait_for(pid)
        raise
    finally:
        if plan < 0:
            os.close(own)
        ours.close()
    return child


class Attended:
    """While it lasts, signals for whoever stays in front of a child are blocked, so that `wait` gets them all."""

    __slots__ = ("_before",)

    def __enter__(self) -> Attended:
        self._before = _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED | {_signal.SIGCHLD})
        return self

    def __exit__(self, *exc: object) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._before)

    def wait(self, child: int) -> int:
        """Wait for a child and pass on the signals that were sent by a process; 128 + signal when one ended it.

        Signals of a terminal reach the child anyway.
        """
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            info = _signal.sigwaitinfo(FORWARDED | {_signal.SIGCHLD})
            sent_by_a_process = info.si_code <= 0  # SI_USER and its like; the kernel's own are positive
            if info.si_signo != _signal.SIGCHLD and sent_by_a_process:
                os.kill(child, info.si_signo)


def foreground(steps: Sequence[Step]) -> int:
    """Execute a plan whose `exec` takes this process's place at the terminal; what it ended with (128 + signal).

    It is a child of this process and dies with it (`pdeathsig` is the plan's). Raises as `launch`.
    """
    with Attended() as front:
        return front.wait(launch(steps))
