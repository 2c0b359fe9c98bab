"""Locks of open file descriptions (fcntl(2), OFD locks): who is handed the descriptor has the lock, and whoever holds
it last gives it up by ending, however that happens. Asking who has one takes nothing."""

from __future__ import annotations

import fcntl
import os
import struct

# struct flock of fcntl(2): l_type, l_whence, l_start, l_len, l_pid.
_LAYOUT = "hhqqi4x"
_WHOLE_FILE = struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


def take(fd: int) -> None:
    """Raises `OSError` (EAGAIN or EACCES) when somebody else has it."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _WHOLE_FILE)


def wait(fd: int) -> None:
    """Take it once nobody else has it."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _WHOLE_FILE)


def held(path: str) -> bool:
    """Does anybody have the lock of this file. A file that is not there is nobody's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _WHOLE_FILE)
    finally:
        os.close(fd)
    return bool(struct.unpack(_LAYOUT, answer)[0] != fcntl.F_UNLCK)
