"""A directory as a layer: sorted, deterministic, overlay's whiteouts turned back into `.wh.` files.

What goes in: files, directories, links, devices, fifos; owner, mode, times, hard links, xattrs a container can see.
What does not: sockets, names of users, xattrs of this machine's security modules and of overlay.
"""

from __future__ import annotations

import os
import stat

from knarr.errors import DataError
from knarr.record import Record
from knarr.store import tar
from knarr.store.beneath import Beneath, shown
from knarr.store.tar import Entry
from knarr.store.tar_writer import TarWriter
from knarr.store.unpack import WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

_OPAQUE_XATTRS = ("trusted.overlay.opaque", "user.overlay.opaque")
_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_OVERLAY = "user.overlay."
_CHUNK = 1 << 20
_KINDS = {
    stat.S_IFREG: tar.FILE, stat.S_IFDIR: tar.DIRECTORY, stat.S_IFLNK: tar.SYMLINK, stat.S_IFIFO: tar.FIFO,
    stat.S_IFCHR: tar.CHAR, stat.S_IFBLK: tar.BLOCK_DEVICE,
}  # fmt: skip


class Look(Record):
    """How what is on disk appears in the layer."""

    owner: tuple[int, int] | None = None  # everything belongs to it; None: as on disk
    newest_ns: int | None = None  # no time after this one (SOURCE_DATE_EPOCH)


AS_ON_DISK = Look()


def write_layer(directory: int, write: Callable[[bytes], object], look: Look = AS_ON_DISK) -> None:
    """The tree below `directory` (a descriptor) as an uncompressed layer. Raises `DataError` if it changes."""
    out = TarWriter(write)
    walk = _Walk(directory, look)
    try:
        for path, found in walk.entries():
            walk.add(out, path, found)
    finally:
        walk.close()
    out.close()


class _Walk:
    def __init__(self, directory: int, look: Look) -> None:
        self._look = look
        self._tree = Beneath(directory, lambda path: None, _blocked)
        self._linked: dict[tuple[int, int], bytes] = {}

    def close(self) -> None:
        self._tree.close()

    def entries(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Path and lstat of everything, parents first, names in the order of their bytes."""
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            parent, _, name = path.rpartition(b"/")
            found = os.stat(name or b".", dir_fd=self._tree.fd(parent), follow_symlinks=False)
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                names = sorted(map(os.fsencode, os.listdir(self._tree.fd(path))), reverse=True)
                waiting += [path + b"/" + name if path else name for name in names]

    def add(self, out: TarWriter, path: bytes, found: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        parent, _, name = path.rpartition(b"/")
        if kind is None:
            return
        if kind is tar.CHAR and found.st_rdev == 0:
            out.entry(self._empty((parent + b"/" if parent else b"") + WHITEOUT + name))
            return
        fd = self._tree.fd(parent)
        link = b""
        size = 0
        if kind is not tar.DIRECTORY and found.st_nlink > 1:
            first = self._linked.setdefault((found.st_dev, found.st_ino), path)
            if first is not path:
                kind, link = tar.HARDLINK, first
        if kind is tar.SYMLINK:
            link = os.readlink(name, dir_fd=fd)
        elif kind is tar.FILE:
            size = found.st_size
        xattrs = {} if kind is tar.HARDLINK else self._xattrs(fd, name)
        opaque = kind is tar.DIRECTORY and any(
            xattrs.pop(key.encode(), b"") == b"y" for key in _OPAQUE_XATTRS
        )
        uid, gid = self._look.owner or (found.st_uid, found.st_gid)
        mtime = (
            found.st_mtime_ns
            if self._look.newest_ns is None
            else min(found.st_mtime_ns, self._look.newest_ns)
        )
        device = (
            (os.major(found.st_rdev), os.minor(found.st_rdev))
            if kind in (tar.CHAR, tar.BLOCK_DEVICE)
            else (0, 0)
        )
        if path or xattrs:
            shown_as = path or b"."
            out.entry(
                Entry(
                    shown_as, kind, stat.S_IMODE(found.st_mode), uid, gid, size, mtime, link, device, xattrs
                )
            )
        if kind is tar.FILE:
            self._contents(out, fd, name, path, size)
        if opaque:
            out.entry(self._empty((path + b"/" if path else b"") + b".wh..wh..opq"))

    def _empty(self, name: bytes) -> Entry:
        return Entry(name, tar.FILE, 0o600, *(self._look.owner or (0, 0)), 0, 0)

    def _contents(self, out: TarWriter, parent: int, name: bytes, path: bytes, size: int) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            while size:
                chunk = os.read(fd, min(size, _CHUNK))
                if not chunk:
                    raise DataError(f"{shown(path)}: became shorter while it was read")
                out.data(chunk)
                size -= len(chunk)
        finally:
            os.close(fd)

    def _xattrs(self, parent: int, name: bytes) -> dict[bytes, bytes]:
        path = b"/proc/self/fd/%d/%b" % (parent, name)
        try:
            keys = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return {}
        return {
            os.fsencode(key): os.getxattr(path, key, follow_symlinks=False)
            for key in sorted(keys)
            if key in _OPAQUE_XATTRS or (key.startswith(_XATTRS) and not key.startswith(_OVERLAY))
        }


def _blocked(parent: int, name: bytes, path: bytes) -> NoReturn:
    raise DataError(f"{shown(path)}: changed while it was read")
