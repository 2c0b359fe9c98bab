"""Directories beneath one directory, by descriptor: no path from an archive ever reaches a system call whole.

A path is walked component by component with O_NOFOLLOW. A symbolic link on the way is resolved by us, with the layer's
own root as `/` and as the end of every `..`, the way a process inside would see it. Only we write to the tree while it
is unpacked, so what a walk has found stays true until we change it (`forget`).
"""

from __future__ import annotations

import os
import stat

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATH_MAX = 4096
NAME_MAX = 255
_HOPS_MAX = 40
_OPEN_MAX = 64  # descriptors kept
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def components(name: bytes) -> list[bytes]:
    """An archive's name as path components: absolute is made relative, `.` dropped. Raises `DataError` for `..`."""
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise DataError(f"{shown(name)}: `..` in a name of the archive")
    if len(name) > PATH_MAX or (parts and max(map(len, parts)) > NAME_MAX):
        raise DataError(f"{shown(name)}: a name longer than Linux can have")
    if b"\0" in name:
        raise DataError(f"{shown(name)}: a NUL in a name of the archive")
    return parts


def shown(name: bytes) -> str:
    """A name for a message: printable, not too long."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else text[:200] + "…")


class Beneath:
    """The tree below `root` (a descriptor, not closed by us). Paths are canonical: real directories joined by `/`,
    b"" for the root. `blocked(parent fd, name, path)` turns what is
    neither directory nor link into a directory, or raises; `made(path)` is told of directories nobody asked for."""

    def __init__(
        self, root: int, made: Callable[[bytes], None], blocked: Callable[[int, bytes, bytes], None]
    ) -> None:
        self._root = root
        self._made = made
        self._blocked = blocked
        self._fds: dict[bytes, int] = {}
        self._resolved: dict[bytes, bytes] = {b"": b""}

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def resolve(self, path: bytes, *, create: bool = True) -> bytes:
        """The canonical path of the directory `path`; what is missing on the way is made. Raises `DataError`."""
        found = self._resolved.get(path)
        if found is None:
            found = self._walk(path, create)
            if len(self._resolved) > 1 << 16:
                self._resolved = {b"": b""}
            self._resolved[path] = found
        return found

    def fd(self, path: bytes) -> int:
        """A descriptor of a canonical directory, ours until the next call or two."""
        fd = self._fds.get(path)
        if fd is not None:
            return fd
        if not path:
            return self._root
        fd = self.open(path)
        if len(self._fds) >= _OPEN_MAX:
            os.close(self._fds.pop(next(iter(self._fds))))  # the one opened first
        self._fds[path] = fd
        return fd

    def known(self, path: bytes) -> None:
        """A directory has just been made at this canonical path."""
        self._resolved[path] = path

    def forget(self) -> None:
        """Something was removed or a link was made: walk again."""
        self.close()
        self._resolved = {b"": b""}

    def open(self, path: bytes) -> int:
        """A descriptor of the caller's own of a canonical directory: a walk from the nearest ancestor that is open."""
        above, below = path, []
        fd = -1
        while above and fd < 0:
            above, _, name = above.rpartition(b"/")
            below.append(name)
            fd = self._fds.get(above, -1)
        fd = os.dup(self._root if fd < 0 else fd)
        for name in reversed(below):
            try:
                deeper = os.open(name, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _walk(self, path: bytes, create: bool) -> bytes:
        above, slash, name = path.rpartition(b"/")
        done = self.resolve(above, create=create) if slash and above in self._resolved else b""
        todo = [name] if slash and above in self._resolved else path.split(b"/")[::-1]
        hops = 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":  # from a link; in a real directory, so its parent is the canonical one
                done = done.rpartition(b"/")[0]
                continue
            deeper = done + b"/" + name if done else name
            if len(deeper) > PATH_MAX or len(name) > NAME_MAX:
                raise DataError(f"{shown(path)}: a name longer than Linux can have")
            link = self._step(done, name, deeper, create)
            if link is None:
                done = deeper
                continue
            hops += 1
            if hops > _HOPS_MAX:
                raise DataError(f"{shown(path)}: too many symbolic links on the way")
            if link.startswith(b"/"):
                done = b""
            todo += link.split(b"/")[::-1]
        return done

    def _step(self, parent: bytes, name: bytes, path: bytes, create: bool) -> bytes | None:
        """Into a directory (None), or the text of the link that is there instead."""
        fd = self.fd(parent)
        try:
            mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            if not create:
                raise DataError(f"{shown(path)}: is not in this layer") from None
            self._make(fd, name, path)
            return None
        if stat.S_ISDIR(mode):
            return None
        if stat.S_ISLNK(mode):
            return os.readlink(name, dir_fd=fd)
        if create:
            self._blocked(fd, name, path)  # raises, or makes a directory of it
            self._made(path)
            return None
        raise DataError(f"{shown(path)}: is not a directory")

    def _make(self, fd: int, name: bytes, path: bytes) -> None:
        os.mkdir(name, 0o700, dir_fd=fd)
        self._made(path)
