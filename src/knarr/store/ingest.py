"""One layer from a stream into the store, in one pass.

    read → count, hash (the blob's digest), write the blob        one thread
         → decompress → hash (the diff id)                        another
         → tar reader → files                                     the caller's

Nothing is visible before size, digest and diff id are what the image says; whatever goes wrong, nothing is left but a
cut download, which the next try goes on with.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading

from knarr.errors import DataError, HostError
from knarr.oci.digest import Digest
from knarr.record import Record
from knarr.store.ahead import Ahead
from knarr.store.decompress import Decompressed
from knarr.store.tar import TarReader
from knarr.store.unpack import MAX_ENTRIES, Unpacked, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.image import Descriptor

_READ = 1 << 18
# Who makes files needs the interpreter's lock for each: many at once take it from one another (measured, 8 layers on
# two processors: 3.3 s of processor time and 30,000 switches; one at a time 2.7 s and 6,000, and done a tenth sooner).
_TURNS = threading.Semaphore(max(1, (os.cpu_count() or 1) // 2))
_STEP = 8 << 20  # bytes of a blob after which what has come so far begins to be written out


class Limits(Record):
    """What a layer may become. Generous: their purpose is that a bomb ends before the disk does."""

    bytes_floor: int = 16 << 30  # any layer may unpack to this much
    ratio: int = 200  # or to so many times its compressed size
    entries: int = MAX_ENTRIES

    def ceiling(self, compressed: int) -> int:
        return max(self.bytes_floor, self.ratio * compressed)


class Incoming:
    """The compressed bytes: first what an earlier try left in `fd`, then what `read` delivers; hashed, kept in `fd`.

    `flush` is called now and then, when more has come that could be written out.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        fd: int,
        kept: int,
        read: Callable[[int], bytes],
        progress: Callable[[int], None],
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self._size = descriptor.size
        self._name = descriptor.digest
        self._fd = fd
        self._kept = kept
        self._source = read
        self._progress = progress
        self._hash = hashlib.new(Digest(descriptor.digest).algorithm)
        self._flush = flush
        self._stepped = 0
        self.count = 0
        self.interrupted = False  # it was the source that failed: what came so far is worth keeping

    def read(self, size: int = _READ) -> bytes:
        if self.count < self._kept:
            chunk = os.pread(self._fd, min(_READ, self._kept - self.count), self.count)
        else:
            chunk = self._fetch()
        self._hash.update(chunk)
        self.count += len(chunk)
        if chunk:
            self._progress(len(chunk))
        return chunk

    def _fetch(self) -> bytes:
        self.interrupted = True
        chunk = self._source(_READ)
        self.interrupted = False
        if self.count + len(chunk) > self._size:
            raise DataError(f"layer {self._name}: is longer than the {self._size} bytes its manifest says")
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            if self.count - self._stepped >= _STEP:
                # The blob is read again only to be pushed or saved: the same memory may take all of it.
                os.posix_fadvise(self._fd, 0, self.count, os.POSIX_FADV_DONTNEED)
                self._stepped = self.count
                self._flush()
        except OSError as e:
            raise disk_trouble(f"layer {self._name}", e) from e
        return chunk

    def verify(self) -> None:
        """After the end: is it what the descriptor says. Raises `DataError`."""
        if self.count != self._size:
            raise DataError(f"layer {self._name}: {self.count} bytes came, its manifest says {self._size}")
        actual = f"{self._hash.name}:{self._hash.hexdigest()}"
        if actual != self._name:
            raise DataError(f"layer {self._name}: its bytes have the digest {actual}: damaged or forged")


class Hashed:
    """The uncompressed bytes on their way to the tar reader. `count` of them came."""

    def __init__(self, read: Callable[[int], bytes], diff_id: Digest) -> None:
        self._read = read
        self._diff_id = diff_id
        self._hash = hashlib.new(diff_id.algorithm)
        self.count = 0

    def read(self, size: int) -> bytes:
        chunk = self._read(size)
        self._hash.update(chunk)
        self.count += len(chunk)
        return chunk

    def verify(self, what: str) -> None:
        actual = f"{self._hash.name}:{self._hash.hexdigest()}"
        if actual != self._diff_id:
            raise DataError(f"layer {what}: unpacks to {actual}, its image's config says {self._diff_id}")


def unpack_layer(
    incoming: Incoming,
    diff_id: Digest,
    what: str,
    directory: str,
    *,
    ceiling: int,
    limits: Limits,
    userxattr: bool,
) -> Unpacked:
    """All of `incoming` into the new directory `directory`, everything verified. Raises `DataError`, `HostError`."""
    os.mkdir(directory, 0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Ahead(incoming.read) as fetched:
            plain = Hashed(Decompressed(fetched.read, f"layer {what}", ceiling=ceiling).read, diff_id)
            with Ahead(plain.read) as ahead, _TURNS:
                reader = TarReader(_in_turn(ahead.read), strict_end=False)
                result = unpack(reader, fd, userxattr=userxattr, max_entries=limits.entries)
    finally:
        os.close(fd)
    incoming.verify()
    plain.verify(what)
    return result._replace(archive_bytes=plain.count)


def _in_turn(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """`read`, by who has a turn: another may have it while this one waits for bytes."""

    def read_in_turn(size: int) -> bytes:
        _TURNS.release()
        try:
            return read(size)
        finally:
            _TURNS.acquire()

    return read_in_turn


def check_layer(incoming: Incoming, diff_id: Digest, what: str, *, ceiling: int) -> None:
    """Only read and verify: the layer is unpacked already, and its blob is wanted."""
    plain = Hashed(Decompressed(incoming.read, f"layer {what}", ceiling=ceiling).read, diff_id)
    while plain.read(1 << 20):
        pass
    incoming.verify()
    plain.verify(what)


def disk_trouble(what: str, e: OSError) -> HostError:
    """A file of the store could not be written."""
    hint = ""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`"
    return HostError(f"{what}: {os.strerror(e.errno or 0).lower()}", hint=hint)
