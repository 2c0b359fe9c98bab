"""Apply a layer's archive to an empty directory that becomes a lower layer of an overlay. Safe against any archive.

What a layer says          what is made of it
  .wh.NAME                 NAME as a character device 0:0: overlay's whiteout; nothing when the layer has a NAME itself
  .wh..wh..opq             the directory's xattr `overlay.opaque`
  .wh..wh.*                nothing: AUFS's own bookkeeping
  a path through a link    resolved inside the layer (knarr.store.beneath)
  a name twice             the later one replaces the earlier one; directories are merged
  a hard link              to something in this very layer, or refused
  a device node            made by the machine's root only; others cannot, it is counted

Directories are given modes and times at the end: what is made in them would change the times, and a directory without
write permission would refuse it.
"""

from __future__ import annotations

import errno
import os
import stat

from knarr.errors import DataError, HostError
from knarr.record import Record
from knarr.store import tar
from knarr.store.beneath import Beneath, components, shown
from knarr.store.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from knarr.store.tar import Entry, TarReader

WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_WHITEOUT_DEVICE = os.makedev(0, 0)
# What overlay reads from a lower layer: an archive that could write them could redirect into other directories.
_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ID = (1 << 32) - 2  # (uid_t) -1 means "leave it" to chown(2)
_MAX_TIME_NS = (1 << 55) * 1_000_000_000
_TOLERATED = (errno.EPERM, errno.EINVAL)
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)
_HOSTS_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_IMPLIED_MODE = 0o755
MAX_ENTRIES = 4_000_000


class Unpacked(Record):
    """What came of it. The counts are of what this user could not do."""

    entries: int
    size_bytes: int  # of the files' contents
    devices_skipped: int
    owners_lost: int
    xattrs_lost: int
    archive_bytes: int = 0  # of the uncompressed archive, headers and all


def unpack(reader: TarReader, root: int, *, userxattr: bool, max_entries: int = MAX_ENTRIES) -> Unpacked:
    """Apply the archive to the empty directory `root` (a descriptor).

    `userxattr`: overlay will be mounted in a user namespace, so its xattrs are `user.overlay.*`.
    Raises `DataError` for what the archive does wrong, `HostError` for what the machine cannot.
    """
    layer = _Layer(root, userxattr, max_entries)
    name = b""
    try:
        for entry in reader:
            name = entry.name
            layer.add(entry, reader)
        name = b"/"
        layer.finish()
    except OSError as e:
        raise _translated(e, name) from e
    finally:
        layer.close()
    return layer.result()


def _translated(e: OSError, name: bytes) -> DataError | HostError:
    cause = f"{shown(name)}: {os.strerror(e.errno or 0).lower()}"
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostError(f"unpack {cause}", hint="free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`")
    if e.errno in _HOSTS_FAULT:
        return HostError(f"unpack {cause}")
    return DataError(f"unpack {cause}")


class _Layer:
    def __init__(self, root: int, userxattr: bool, max_entries: int) -> None:
        self._root = root
        self._opaque_name = b"user.overlay.opaque" if userxattr else b"trusted.overlay.opaque"
        self._max_entries = max_entries
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._umask = _umask()
        self._tree = Beneath(root, self._implied, self._blocked)
        self._directories: dict[bytes, Entry | None] = {b"": None}  # None: nobody said how it should be
        self._whiteouts: set[bytes] = set()
        self._entries = self._size = self._devices = self._owners = self._xattrs = 0
        # What the directory inherited (a setgid bit, a group) must not be inherited by everything below.
        os.fchown(root, self._uid, self._gid)
        os.fchmod(root, 0o700)

    def close(self) -> None:
        self._tree.close()

    def result(self) -> Unpacked:
        return Unpacked(self._entries, self._size, self._devices, self._owners, self._xattrs)

    def add(self, entry: Entry, reader: TarReader) -> None:
        self._entries += 1
        if self._entries > self._max_entries:
            raise DataError(f"a layer of more than {self._max_entries} entries")
        if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
            raise DataError(f"{shown(entry.name)}: belongs to the impossible owner {entry.uid}:{entry.gid}")
        parts = components(entry.name)
        if not parts:
            if entry.kind is not tar.DIRECTORY:
                raise DataError(f"{shown(entry.name)}: a {entry.kind} in place of the root directory")
            self._directories[b""] = entry
            return
        name = parts.pop()
        if any(part.startswith(_META) for part in parts):
            return
        parent = self._tree.resolve(b"/".join(parts))
        if name.startswith(WHITEOUT):
            self._white_out(parent, name)
            return
        path = parent + b"/" + name if parent else name
        if entry.kind is tar.DIRECTORY:
            self._directory(entry, parent, name, path)
            return
        fd = self._tree.fd(parent)
        make = self._MAKERS[entry.kind]
        try:
            make(self, entry, fd, name, reader)
        except FileExistsError:
            self._clear(fd, name, path)
            make(self, entry, self._tree.fd(parent), name, reader)

    # One method for each kind. All raise FileExistsError before they have done anything.

    def _file(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        mode = entry.mode & 0o7777
        fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent)
        try:
            if entry.extents is None:
                for chunk in reader.chunks():
                    written = os.write(fd, chunk)
                    while written < len(chunk):
                        written += os.write(fd, chunk[written:])
            else:
                for offset, piece in reader.extents():
                    while piece:
                        written = os.pwrite(fd, piece, offset)
                        offset += written
                        piece = piece[written:]
                os.ftruncate(fd, entry.size)
            self._size += entry.size
            if entry.uid != self._uid or entry.gid != self._gid:
                self._own(fd, entry)
            if mode & 0o7000 or mode & self._umask:
                os.fchmod(fd, mode)  # after chown, which takes setuid away
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            time = _time(entry)
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _hard_link(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        target = components(entry.link)
        if not target:
            raise DataError(f"{shown(entry.name)}: a hard link to nothing")
        leaf = target.pop()
        parent = os.dup(parent)  # finding the target may close it
        try:
            where = self._tree.resolve(b"/".join(target), create=False)
            os.link(leaf, name, src_dir_fd=self._tree.fd(where), dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise DataError(
                f"{shown(entry.name)}: a hard link to {shown(entry.link)}, which is not in this layer"
            ) from None
        finally:
            os.close(parent)

    def _symbolic_link(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        if not entry.link or b"\0" in entry.link:
            raise DataError(f"{shown(entry.name)}: a symbolic link to nothing")
        os.symlink(entry.link, name, dir_fd=parent)
        self._own_name(entry, parent, name)

    def _fifo(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        os.mkfifo(name, 0o600, dir_fd=parent)
        self._own_name(entry, parent, name)

    def _device(self, entry: Entry, parent: int, name: bytes, reader: TarReader) -> None:
        kind = stat.S_IFCHR if entry.kind is tar.CHAR else stat.S_IFBLK
        major, minor = entry.device
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise DataError(f"{shown(entry.name)}: a device {major}:{minor}, which Linux cannot have")
        try:
            os.mknod(name, kind | 0o600, os.makedev(major, minor), dir_fd=parent)
        except PermissionError:
            self._devices += 1
            return
        self._own_name(entry, parent, name)

    _MAKERS = {
        tar.FILE: _file,
        tar.HARDLINK: _hard_link,
        tar.SYMLINK: _symbolic_link,
        tar.FIFO: _fifo,
        tar.CHAR: _device,
        tar.BLOCK_DEVICE: _device,
    }

    def _directory(self, entry: Entry, parent: bytes, name: bytes, path: bytes) -> None:
        fd = self._tree.fd(parent)
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if path in self._directories:
                self._directories[path] = entry
                return
            hidden = path in self._whiteouts
            self._clear(fd, name, path)
            fd = self._tree.fd(parent)
            os.mkdir(name, 0o700, dir_fd=fd)
            if hidden:
                self._set_opaque(fd, name)
        self._directories[path] = entry
        self._tree.known(path)

    # Whiteouts.

    def _white_out(self, parent: bytes, name: bytes) -> None:
        fd = self._tree.fd(parent)
        if name == _OPAQUE:
            self._opaque(fd, parent)
            return
        if name.startswith(_META):
            return
        hidden = name[len(WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise DataError(f"{shown(name)}: a whiteout of {shown(hidden)}")
        path = parent + b"/" + hidden if parent else hidden
        try:
            os.mknod(hidden, stat.S_IFCHR | 0o600, _WHITEOUT_DEVICE, dir_fd=fd)
        except FileExistsError:
            # It speaks of the layers below: what this one has itself stays, and a directory does not show theirs.
            if path in self._directories:
                self._set_opaque(fd, hidden)
            return
        self._whiteouts.add(path)

    def _set_opaque(self, parent: int, name: bytes) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._opaque(fd, name)
        finally:
            os.close(fd)

    def _opaque(self, fd: int, path: bytes) -> None:
        try:
            os.setxattr(fd, self._opaque_name, b"y")
        except OSError as e:
            raise HostError(
                f"unpack {shown(path)}: the file system of the store cannot hold overlay's mark "
                f"{self._opaque_name.decode()}: {os.strerror(e.errno or 0).lower()}",
                hint="choose another place with --root or KNARR_ROOT",
            ) from e

    def _implied(self, path: bytes) -> None:
        self._directories.setdefault(path, None)

    def _blocked(self, parent: int, name: bytes, path: bytes) -> None:
        """Something is in the way of a directory: a whiteout makes way, and hides what is below it."""
        if path not in self._whiteouts:
            raise DataError(f"{shown(path)}: is used as a directory, but it is none")
        self._whiteouts.discard(path)
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        self._set_opaque(parent, name)

    def _clear(self, parent: int, name: bytes, path: bytes) -> None:
        """Remove what an earlier entry made, and all we remember of it."""
        remove_tree(name, dir_fd=parent)
        self._tree.forget()
        self._whiteouts.discard(path)
        if path in self._directories:
            below = path + b"/"
            for gone in [p for p in self._directories if p == path or p.startswith(below)]:
                del self._directories[gone]
            self._whiteouts = {p for p in self._whiteouts if not p.startswith(below)}

    # Attributes.

    def finish(self) -> None:
        """Directories get what their entries say, the deepest first."""
        for path in sorted(self._directories, reverse=True):
            entry = self._directories[path]
            fd = os.dup(self._root) if not path else self._tree.open(path)
            try:
                if entry is None:
                    os.fchmod(fd, _IMPLIED_MODE)
                    continue
                if entry.uid != self._uid or entry.gid != self._gid:
                    self._own(fd, entry)
                os.fchmod(fd, entry.mode & 0o7777)
                if entry.xattrs:
                    self._set_xattrs(fd, entry)
                time = _time(entry)
                os.utime(fd, ns=(time, time))
            finally:
                os.close(fd)

    def _own(self, fd: int, entry: Entry) -> None:
        try:
            os.fchown(fd, entry.uid, entry.gid)
        except OSError as e:
            if e.errno not in _TOLERATED:
                raise
            self._owners += 1

    def _own_name(self, entry: Entry, parent: int, name: bytes) -> None:
        """Owner, mode, xattrs and times of something that cannot be opened."""
        if entry.uid != self._uid or entry.gid != self._gid:
            try:
                os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            except OSError as e:
                if e.errno not in _TOLERATED:
                    raise
                self._owners += 1
        if entry.kind is not tar.SYMLINK:
            os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
        if entry.xattrs:
            self._set_xattrs(b"/proc/self/fd/%d/%b" % (parent, name), entry)
        time = _time(entry)
        os.utime(name, ns=(time, time), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, where: int | bytes, entry: Entry) -> None:
        for key, value in entry.xattrs.items():
            if key.startswith(_FORBIDDEN_XATTRS) or b"\0" in key:
                self._xattrs += 1
                continue
            try:
                if isinstance(where, int):
                    os.setxattr(where, key, value)
                else:
                    os.setxattr(where, key, value, follow_symlinks=False)
            except OSError as e:
                if e.errno not in _NO_XATTRS:
                    raise
                self._xattrs += 1


def _time(entry: Entry) -> int:
    return max(-_MAX_TIME_NS, min(entry.mtime_ns, _MAX_TIME_NS))


def _umask() -> int:
    """This process's umask, read without changing it: other threads make files meanwhile."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def warnings(results: Iterable[Unpacked]) -> list[str]:
    """What could not be made as the archives say, one line for each kind. Pure but for the id map it asks for."""
    devices = owners = xattrs = 0
    for result in results:
        devices += result.devices_skipped
        owners += result.owners_lost
        xattrs += result.xattrs_lost
    lines = []
    if devices:
        lines.append(
            f"{devices} device nodes of the image were left out: only the machine's root may make them"
        )
    if (
        owners and _mapped_ids() > 1
    ):  # with a single id nothing else is expected, and `host.userns` has said so
        lines.append(f"{owners} files of the image belong to ids that this user has not, and became root's")
    if xattrs:
        lines.append(
            f"{xattrs} extended attributes of the image were left out: not allowed to this user, or overlay's"
        )
    return lines


def _mapped_ids() -> int:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return sum(int(line.split()[2]) for line in file)
