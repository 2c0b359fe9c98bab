"""The members of an archive or a layout that is being loaded, by name, readable in any order and by several threads.

    a directory           its files, below it
    an uncompressed file  its headers are read, contents stay where they are
    anything else         (a pipe, a compressed archive) is copied into one file of the session as it comes

Names are looked up, never opened: nothing an archive says becomes a path of ours.
"""

from __future__ import annotations

import os
import stat

from knarr.errors import DataError, UsageError
from knarr.record import Record
from knarr.store import tar
from knarr.store.decompress import CHUNK, Decompressed
from knarr.store.ingest import disk_trouble
from knarr.store.tar import TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Parts(Protocol):
        """Where members are found."""

        def find(self, name: str) -> Part | None: ...
        def close(self) -> None: ...


MEMBERS_MAX = 200_000
_HOPS_MAX = 8


class Part(Record):
    """One member: `size` bytes at `offset` of the open file `fd`."""

    fd: int
    offset: int
    size: int

    def reader(self) -> Callable[[int], bytes]:
        """`read(n)` from its beginning, independent of other readers."""
        at, end = self.offset, self.offset + self.size

        def read(size: int) -> bytes:
            nonlocal at
            chunk = os.pread(self.fd, min(size, end - at), at)
            at += len(chunk)
            return chunk

        return read

    def contents(self, limit: int, what: str) -> bytes:
        """All of it. Raises `DataError` above `limit` bytes."""
        if self.size > limit:
            raise DataError(f"{what}: {self.size} bytes; {limit} are allowed")
        return os.pread(self.fd, self.size, self.offset)

    def compression(self) -> str:
        """What its first bytes say, "" for none."""
        return Decompressed(self.reader(), "", ceiling=CHUNK, archives=True).recognise()


def document(parts: Parts, name: str, limit: int) -> bytes:
    """A small member that must be there. Raises `DataError`."""
    part = parts.find(name)
    if part is None:
        raise DataError(f"the archive has no {name[:200]!r}")
    return part.contents(limit, name)


class DirectoryParts:
    """A layout that is a directory."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fds: list[int] = []

    def find(self, name: str) -> Part | None:
        try:
            fd = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        self._fds.append(fd)
        found = os.fstat(fd)
        return Part(fd, 0, found.st_size) if stat.S_ISREG(found.st_mode) else None

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


class ArchiveParts:
    """A tar archive."""

    def __init__(self, fd: int, what: str, spool: str) -> None:
        """`fd`: the archive, at its beginning, ours from now on. `spool`: a free path for what cannot be read twice."""
        self._fds = [fd]
        self._members: dict[str, Part] = {}
        self._links: dict[str, str] = {}
        compressed = Decompressed(lambda size: os.read(fd, size), what, ceiling=1 << 62, archives=True)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode) and not compressed.recognise():
                self._index(fd)
            else:
                self._copy(compressed, spool, what)
        except BaseException:
            self.close()
            raise

    def find(self, name: str) -> Part | None:
        """A member by name; links inside the archive are followed."""
        for _ in range(_HOPS_MAX):
            found = self._members.get(name)
            if found is not None or name not in self._links:
                return found
            name = self._links[name]
        return None

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def _index(self, fd: int) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        size = os.fstat(fd).st_size
        reader = TarReader(
            lambda n: os.read(fd, min(n, 1 << 16)), leap=lambda n: os.lseek(fd, n, os.SEEK_CUR)
        )
        for entry in reader:
            if self._note(entry):
                if reader.position + entry.size > size:
                    raise DataError("tar: the archive is cut off in the middle of an entry")
                self._members[_normal(entry.name)] = Part(fd, reader.position, entry.size)

    def _copy(self, source: Decompressed, path: str, what: str) -> None:
        spool = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._fds.append(spool)
        os.unlink(path)
        reader = TarReader(source.read)
        at = 0
        for entry in reader:
            if not self._note(entry):
                continue
            for chunk in reader.chunks():
                view = chunk
                while view:
                    try:
                        view = view[os.write(spool, view) :]
                    except OSError as e:
                        raise disk_trouble(what, e) from e
            self._members[_normal(entry.name)] = Part(spool, at, entry.size)
            at += entry.size

    def _note(self, entry: tar.Entry) -> bool:
        """Is it a file whose contents may be asked for; links are remembered."""
        if len(self._members) + len(self._links) > MEMBERS_MAX:
            raise DataError(f"an archive of images with more than {MEMBERS_MAX} members")
        if entry.kind is tar.SYMLINK:
            name = _normal(entry.name)
            self._links[name] = _normal(os.fsencode(os.path.dirname(name)) + b"/" + entry.link)
        elif entry.kind is tar.HARDLINK:
            self._links[_normal(entry.name)] = _normal(entry.link)
        return entry.kind is tar.FILE and entry.extents is None


def _normal(name: bytes) -> str:
    """`./a//b/../c` is `a/c`: only a key, so `..` is harmless."""
    return os.path.normpath(b"/" + name).lstrip(b"/").decode("utf-8", "surrogateescape")


def open_parts(path: str, spool: str) -> Parts:
    """What is at `path`, or on standard input when it is empty. Raises `UsageError`, `DataError`."""
    if not path:
        return ArchiveParts(os.dup(0), "standard input", spool)
    if os.path.isdir(path):
        return DirectoryParts(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(f"{path}: {os.strerror(e.errno or 0).lower()}") from e
    return ArchiveParts(fd, path, spool)
