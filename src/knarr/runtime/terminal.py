"""In front of a container's terminal: what is typed goes in, what it prints comes out, until its process has ended.

Only for `run` and `exec` at a terminal without a console socket: engines bring their own relay.
"""

from __future__ import annotations

import _signal
import _socket
import array
import fcntl
import os
import select
import struct
import termios

from knarr.errors import HostError
from knarr.host import native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIGWINCH = 28
_FORWARDED = (1, 2, 3, 10, 12, 15, _SIGWINCH)  # HUP INT QUIT USR1 USR2 TERM
_CHUNK = 32 * 1024


class Relay:
    """A pair of sockets for the terminal's master, and then the relay itself."""

    def __init__(self) -> None:
        self._near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self.console_fd = far.detach()
        self._master = -1

    def attend(self, pid: int) -> int:
        """Relay until the child has ended; its exit code, 128 + signal."""
        os.close(self.console_fd)
        self._master = self._receive()
        pidfd = os.pidfd_open(pid)
        saved = _raw(0)
        try:
            self._resize()
            self._relay(pidfd, _signals())
        finally:
            if saved is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, saved)
            os.close(pidfd)
            os.close(self._master)
        return native.wait_for(pid)

    def _receive(self) -> int:
        fds = array.array("i")
        _, ancillary, _, _ = self._near.recvmsg(4096, _socket.CMSG_SPACE(fds.itemsize))
        self._near.close()
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.frombytes(data[: fds.itemsize])
        if not fds:
            raise HostError("the container's terminal did not arrive")
        os.set_inheritable(fds[0], False)
        return fds[0]

    def _relay(self, pidfd: int, signals: int) -> None:
        poll = select.poll()
        for fd in (self._master, 0, pidfd, signals):
            poll.register(fd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if signals in ready:
                for number in os.read(signals, 64):
                    if number == _SIGWINCH:
                        self._resize()
                    else:
                        native.signal_process(pidfd, number)
            if 0 in ready and not _copy(0, self._master):
                poll.unregister(0)
            if self._master in ready and not _copy(self._master, 1):
                return  # nobody has the terminal open any more
            if pidfd in ready and self._master not in ready:
                return

    def _resize(self) -> None:
        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, struct.pack("4H", 0, 0, 0, 0))
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        except OSError:
            return  # our input is no terminal


def _signals() -> int:
    """A descriptor from which the numbers of the signals can be read that this process gets from here on."""
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in _FORWARDED:
        _signal.signal(number, lambda number, frame: None)
    _signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    return ours


def _copy(source: int, target: int) -> bool:
    """One chunk; False at the end. A terminal whose other side was closed says EIO."""
    try:
        data = os.read(source, _CHUNK)
    except OSError:
        return False
    while data:
        data = data[os.write(target, data) :]
        if not data:
            return True
    return False


def _raw(fd: int) -> list[Any] | None:
    """Put the caller's terminal in raw mode (termios(3), cfmakeraw), but for its output: it is that one which makes a
    new line of a line feed, so that what is redirected gets the container's own bytes. What it was before."""
    if not os.isatty(fd):
        return None
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
        | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )  # fmt: skip
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSADRAIN, mode)
    return before
