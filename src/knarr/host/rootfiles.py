"""Reads one file of a root filesystem that is a stack of layers, or a single directory, without mounting it.

Everything below the layers' directories is hostile. Names are walked one by one with O_NOFOLLOW, a link's text is
resolved here, inside the root, and never by the kernel; a FIFO or a device is never opened. What overlayfs would hide
is hidden: whiteouts (a character device 0:0, or the xattr of a `userxattr` mount), what is below an opaque directory.
"""

from __future__ import annotations

import errno
import os
import stat

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LINKS = 40  # as the kernel's limit, path_resolution(7)
_NAMES = 4096  # every name is a few system calls: a chain of long links must not become minutes
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NONE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)


def read_in_root(layers: Sequence[str], path: str, limit: int) -> bytes | None:
    """Up to `limit` bytes of a regular file, None when there is none. `layers` is topmost first.

    Raises `DataError` when the file is there and cannot be read, or its links lead nowhere useful.
    """
    try:
        fd = _resolve(layers, path)
    except OSError as e:
        raise DataError(f"{path} of the image: {os.strerror(e.errno or 0).lower()}") from e
    if fd is None:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return _content(fd, limit)
    except OSError as e:
        raise DataError(f"{path} of the image cannot be read: {os.strerror(e.errno or 0).lower()}") from e
    finally:
        os.close(fd)


def _content(entry: int, limit: int) -> bytes:
    # The descriptor is known to be a regular file; opened again through it, it cannot have become another.
    fd = os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        chunks = []
        while limit > 0 and (chunk := os.read(fd, min(limit, 1 << 16))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _resolve(layers: Sequence[str], path: str) -> int | None:
    """An O_PATH descriptor of what `path` means inside the root, links followed; None when it is not there."""
    todo = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    steps = 0
    while todo:
        name = todo.pop()
        steps += 1
        if steps > _NAMES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if name in ("", "."):
            continue
        if name == "..":
            done = done[:-1]  # above the root is the root
            continue
        fd = _look_up(layers, [*done, name])
        if fd is None:
            return None
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            try:
                text = os.readlink("", dir_fd=fd)
            finally:
                os.close(fd)
            links += 1
            if links > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if text[:1] == "/":
                done = []
            todo += text.split("/")[::-1]
        elif any(todo) and not stat.S_ISDIR(mode):
            os.close(fd)
            return None
        elif not any(todo):
            return fd
        else:
            os.close(fd)
            done.append(name)
    return None


def _look_up(layers: Sequence[str], names: Sequence[str]) -> int | None:
    """The topmost layer's entry of a path without links. None: no layer has it, or a higher one hides it."""
    for layer in layers:
        fd, hides = _in_layer(layer, names)
        if fd is not None:
            return fd
        if hides:
            return None
    return None


def _in_layer(layer: str, names: Sequence[str]) -> tuple[int | None, bool]:
    """(entry, does this layer hide the ones below)."""
    fd = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    hides = False
    for i, name in enumerate(names):
        try:
            entry = os.open(name, _ENTRY, dir_fd=fd)
        except FileNotFoundError:
            return None, hides
        except NotADirectoryError:
            return None, True
        finally:
            os.close(fd)
        found = os.fstat(entry)
        if _is_whiteout(entry, found):
            os.close(entry)
            return None, True
        if i == len(names) - 1:
            return entry, True
        if not stat.S_ISDIR(found.st_mode):
            os.close(entry)
            return None, True
        hides = hides or _xattr(entry, "opaque") == b"y"
        fd = entry
    os.close(fd)
    return None, hides


def _is_whiteout(fd: int, found: os.stat_result) -> bool:
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == 0
    return stat.S_ISREG(found.st_mode) and found.st_size == 0 and _xattr(fd, "whiteout") is not None


def _xattr(fd: int, name: str) -> bytes | None:
    """overlayfs's attribute of an entry: `trusted.` as root, `user.` where layers are mounted with userxattr."""
    for space in ("trusted", "user"):
        try:
            return os.getxattr(f"/proc/self/fd/{fd}", f"{space}.overlay.{name}")
        except OSError as e:
            if e.errno not in _NONE:
                raise
    return None
