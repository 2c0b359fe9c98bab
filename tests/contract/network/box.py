"""A network namespace made by a plan, and sockets in it that this process holds.

    box = Box.start(attachment)         # the real executor: clone, the host's steps, enter, the container's steps
    server = box.socket(AF_INET, SOCK_STREAM)

A namespace belongs to a thread: one that moves there, opens the socket and ends is all it takes to talk from inside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from knarr.host import native
from knarr.network.attachment import Attachment
from knarr.plan.step import Step

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
PATIENCE_S = 5.0
T = TypeVar("T")


class Box:
    """Process 1 of a namespace; `with` ends it."""

    def __init__(self, pid: int, attachment: Attachment) -> None:
        self.pid = pid
        self.attachment = attachment
        self._namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def start(
        cls,
        attachment: Attachment,
        kinds: str = "net",
        on_pause: Callable[[int], None] = lambda pid: None,
    ) -> Box:
        steps = [Step("clone", (kinds,), "test")]
        if "user" in kinds:
            steps += [Step("write-child", (f"{k}_map", "0 0 1"), "test") for k in ("uid", "gid")]
        steps += attachment.host_steps
        steps += [Step("pause", (label,), "test") for label in attachment.pauses]
        steps += [Step("enter", (), "test"), *attachment.child_steps]
        steps += [Step("env", ("PATH=/bin:/usr/bin",), "test"), Step("exec", ("sleep", "1000"), "test")]
        return cls(_executed(steps, on_pause), attachment)

    def socket(self, family: int, kind: int) -> socket.socket:
        made = self.do(lambda: socket.socket(family, kind))
        made.settimeout(PATIENCE_S)
        return made

    def do(self, action: Callable[[], T]) -> T:
        """Calls it in the namespace."""
        results: list[T] = []
        failures: list[BaseException] = []

        def enter() -> None:
            try:
                if _libc.setns(self._namespace, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                results.append(action())
            except BaseException as e:
                failures.append(e)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def ip(self, words: str) -> str:
        """`ip WORDS` in the namespace."""
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *words.split()]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._namespace)
            self.pid = 0


def _executed(steps: Iterable[Step], on_pause: Callable[[int], None]) -> int:
    """The pid of C, once it has executed its program. It is our child (CLONE_PARENT)."""
    steps = list(steps)
    plan = native.plan_fd(steps)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = 0
    with ours, theirs:
        fds = (plan, theirs.fileno())
        setter = native.spawn([native.program(), "init", *map(str, fds)], {fd: fd for fd in fds})
        os.close(plan)
        theirs.close()
        problem: Exception | None = None
        while report := ours.recv(native.REPORT_BYTES):
            word, _, rest = report.decode().partition(" ")
            if word == "pid":
                pid = int(rest)
            elif word == "pause":
                on_pause(pid)
                ours.send(b"go")
            elif word == "fail":
                problem = native.failure(steps, report)
            elif word == "warn":
                problem = AssertionError(native.warning(steps, report))
        os.waitpid(setter, 0)
    if problem:
        if pid:
            os.waitpid(pid, 0)
        raise problem
    return pid


# -- talking ----------------------------------------------------------------------------------------------------


def listen(made: socket.socket, port: int) -> socket.socket:
    """Binds to every address (both families for an IPv6 socket), and listens if it is TCP."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::" if made.family == socket.AF_INET6 else "0.0.0.0", port))
    if made.type == socket.SOCK_STREAM:
        made.listen()
    return made


def call(client: socket.socket, server: socket.socket, address: tuple[str, int]) -> str:
    """One exchange between a client and a server that listens; the address the server sees the client at."""
    with client:
        client.settimeout(PATIENCE_S)
        client.connect(address)
        if client.type == socket.SOCK_DGRAM:
            client.send(b"question")
            question, peer = server.recvfrom(100)
            server.sendto(b"answer", peer)
        else:
            client.send(b"question")  # before it is accepted: see knarr.network.rootless
            accepted, peer = server.accept()
            with accepted:
                question = accepted.recv(100)
                accepted.send(b"answer")
        assert question == b"question"
        assert client.recv(100) == b"answer"
        return str(peer[0]).removeprefix("::ffff:")


def reaches(client: socket.socket, address: tuple[str, int], patience_s: float = 0.5) -> bool:
    """Whether a TCP connection comes about."""
    with client:
        client.settimeout(patience_s)
        try:
            client.connect(address)
        except OSError:
            return False
        return True
