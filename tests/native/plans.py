"""Hand-written plans through the real program: `init` and `monitor` as a test drives them."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from knarr.plan.step import Step, to_wire

ALL = "mnt,pid,net,ipc,uts,cgroup"
MESSAGE = 64 * 1024
PATIENCE_S = 20


def step(op: str, *args: object, optional: bool = False, origin: str = "") -> Step:
    return Step(op, tuple(map(str, args)), origin or op, optional)


def memory(data: bytes) -> int:
    fd = os.memfd_create("plan")
    os.write(fd, data)
    return fd


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    return ours, theirs


def until_end(connection: socket.socket) -> list[bytes]:
    """All messages up to the end of the connection."""
    found = []
    while message := connection.recv(MESSAGE):
        found.append(message)
    return found


class Outcome(NamedTuple):
    code: int
    reports: list[str]
    out: str
    err: str

    @property
    def words(self) -> list[str]:
        """The reports but `pid`."""
        return [report for report in self.reports if not report.startswith("pid ")]


class Started:
    """`init` while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], status: socket.socket) -> None:
        self.process = process
        self.status = status

    def report(self) -> str:
        """The next one; empty at the end."""
        return self.status.recv(MESSAGE).decode(errors="replace")

    def close_input(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def end(self) -> None:
        self.status.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


class Running:
    """A monitor and its connections. Ended by `end`, whatever the test did."""

    def __init__(
        self, process: subprocess.Popen[bytes], status: socket.socket, primary: socket.socket | None
    ) -> None:
        self.process = process
        self.status = status
        self._primary = primary
        self.pid = 0

    @property
    def primary(self) -> socket.socket:
        assert self._primary is not None
        return self._primary

    def started(self) -> Running:
        """Waits for `started`; fails the test on anything but that."""
        reports = [m.decode() for m in until_end(self.status)]
        assert reports[-1:] == ["started"], reports
        self.pid = next(int(r.split()[1]) for r in reports if r.startswith("pid "))
        return self

    def output(self, stream: str = "o", connection: socket.socket | None = None) -> tuple[bytes, int | None]:
        """Everything of a stream up to the end, and the exit code that was announced."""
        messages = until_end(connection or self.primary)
        code = next((int(m[1:]) for m in messages if m[:1] == b"x"), None)
        return b"".join(m[1:] for m in messages if m[:1] == stream.encode()), code

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def end(self) -> None:
        self.status.close()
        if self._primary:
            self._primary.close()
        if self.process.poll() is None:
            if self.pid:
                try:
                    os.kill(self.pid, 9)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE_S)


class Native:
    """The program under test."""

    def __init__(self, path: Path, env: dict[str, str]) -> None:
        self.path = str(path)
        self.env = env
        self.user: int | None = None  # who starts it; None: who runs the tests
        self.running: list[Running] = []
        self.started: list[Started] = []

    def start(self, plan: Sequence[Step] | bytes, *, wait: bool = True, fds: Sequence[int] = ()) -> Started:
        """`init` on a plan; standard input, output and error are pipes."""
        ours, theirs = pair()
        fd = memory(plan if isinstance(plan, bytes) else to_wire(plan))
        process = subprocess.Popen(
            [self.path, "init", str(fd), str(theirs.fileno()), *(["wait"] if wait else [])],
            pass_fds=(fd, theirs.fileno(), *fds),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            **self._identity(),  # type: ignore[call-overload]
        )
        theirs.close()
        os.close(fd)
        self.started.append(Started(process, ours))
        return self.started[-1]

    def init(
        self,
        plan: Sequence[Step] | bytes,
        *,
        wait: bool = True,
        fds: Sequence[int] = (),
        answers: dict[str, bytes | None] | None = None,
    ) -> Outcome:
        """Executes a plan to its end. `answers`: what to send back for a `pause LABEL`; None hangs up."""
        started = self.start(plan, wait=wait, fds=fds)
        reports: list[str] = []
        while report := started.report():
            reports.append(report)
            if report.startswith("pause "):
                answer = (answers or {}).get(report.split()[1])
                if answer is None:
                    started.status.shutdown(socket.SHUT_WR)
                else:
                    started.status.send(answer)
        out, err = started.process.communicate(timeout=PATIENCE_S)
        return Outcome(
            started.process.returncode, reports, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def monitor(
        self,
        plan: Iterable[Step],
        *words: str,
        teardown: Iterable[Step] = (),
        primary: bool = True,
        fds: Sequence[int] = (),
        exit_command: Sequence[str] = (),
    ) -> Running:
        ours, status = pair()
        given = [memory(to_wire(plan)), memory(to_wire(teardown)), status.fileno()]
        argv = [
            self.path,
            "monitor",
            "id=test",
            f"plan={given[0]}",
            f"teardown={given[1]}",
            f"status={given[2]}",
        ]
        mine = theirs = None
        if primary:
            mine, theirs = pair()
            given.append(theirs.fileno())
            argv.append(f"primary={theirs.fileno()}")
        argv += [*words, *(["--", *exit_command] if exit_command else [])]
        process = subprocess.Popen(argv, pass_fds=(*given, *fds), env=self.env, **self._identity())  # type: ignore[call-overload]
        for fd in given[:2]:
            os.close(fd)
        status.close()
        if theirs:
            theirs.close()
        running = Running(process, ours, mine)
        self.running.append(running)
        return running

    def _identity(self) -> dict[str, object]:
        return {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}

    def end(self) -> None:
        for each in (*self.running, *self.started):
            each.end()


class Rootfs(NamedTuple):
    """A busybox under an overlay whose upper directory is new."""

    base: Path

    @property
    def lower(self) -> Path:
        return self.base / "lower"

    @property
    def upper(self) -> Path:
        return self.base / "upper"

    @property
    def work(self) -> Path:
        return self.base / "work"

    def mounts(self) -> list[Step]:
        base = self.base
        return [
            step("propagation", "/", "0x84000"),
            step("overlay", base / "root", base / "upper", base / "work", "", base / "lower"),
            step("root", base / "root", 0),
            step("mount", "proc", "proc", "/proc", "0xe", ""),
            step("mount", "tmpfs", "tmpfs", "/dev", "0x2", "mode=755"),
            step("mount", "devpts", "devpts", "/dev/pts", "0xa", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
            step("device", "/dev/null", "c", 1, 3, 666, 0, 0),
        ]

    def plan(
        self,
        *argv: str,
        clone: str = ALL,
        host: Sequence[Step] = (),
        late: Sequence[Step] = (),
        inside: Sequence[Step] = (),
        process: Sequence[Step] = (),
    ) -> list[Step]:
        """host, clone, late, enter, mounts, inside, pivot, process, exec."""
        return [
            *host,
            step("clone", clone),
            *late,
            step("enter"),
            *self.mounts(),
            *inside,
            step("pivot"),
            step("chdir", "/"),
            *process,
            step("env", "PATH=/bin"),
            step("exec", *argv),
        ]

    def shell(self, script: str, **parts: Sequence[Step]) -> list[Step]:
        return self.plan("sh", "-c", script, **parts)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Waits until a process that is not our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], PATIENCE_S)[0])
    finally:
        os.close(fd)
