"""Our own tar reader: ustar, pax, GNU and v7 archives from a stream, in bounded memory, strict about damage.

    reader = TarReader(stream.read)
    for entry in reader:
        for offset, chunk in reader.extents():   # the current entry's data; what is not read is skipped
            ...

Names are bytes as the archive has them: nothing here makes them safe, `knarr.store.unpack` does. Why not `tarfile`: it
is three to eight times slower, and accepts archives whose end is missing.
"""

from __future__ import annotations

from knarr.errors import DataError
from knarr.record import Record
from knarr.store.tar_header import BLOCK, MAX_NUMBER, ZERO_BLOCK, Header, number, parse_header
from knarr.store.tar_pax import (
    XATTR,
    Extents,
    Records,
    decimal,
    gnu_sparse,
    is_sparse,
    nanoseconds,
    parse_records,
    pax_sparse,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = (
    "file", "hard link", "symbolic link", "character device", "block device", "directory", "fifo",
)  # fmt: skip
_KINDS = {
    b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARDLINK, b"2": SYMLINK, b"3": CHAR,
    b"4": BLOCK_DEVICE, b"5": DIRECTORY, b"6": FIFO,
}  # fmt: skip
MAX_EXTENDED = 1 << 20  # bytes of one extended header
_CHUNK = 1 << 20
_NO_XATTRS: Mapping[bytes, bytes] = {}


class Entry(Record):
    """One member. `size` in bytes with holes; `mtime_ns` since the epoch; `extents`: where a sparse file has data."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[bytes, bytes] = _NO_XATTRS
    extents: Extents | None = None


class TarReader:
    """Iterates over the entries of the archive that `read(n)` (up to n bytes, b"" at the end) delivers.

    `strict_end`: an archive that stops without its two zero blocks is refused. Layers are read without: their
    digest says whether they are whole, and some builders leave the end out. `leap(n)`, where the stream can do so,
    moves it n bytes on. Raises `DataError`.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        strict_end: bool = True,
        leap: Callable[[int], object] | None = None,
    ) -> None:
        self._read = read
        self._leap = leap
        self._passed = 0  # bytes of the stream before the buffer
        self._strict_end = strict_end
        self._buffer = b""
        self._at = 0
        self._data = 0  # unread bytes of the current entry
        self._padding = 0
        self._extents: Extents | None = None
        self._globals: Records = {}

    def __iter__(self) -> Iterator[Entry]:
        while True:
            entry = self._next()
            if entry is None:
                return
            yield entry

    def chunks(self) -> Iterator[memoryview]:
        """The current entry's stored bytes, as they come."""
        while self._data:
            if self._at == len(self._buffer):
                self._fill()
            stop = min(self._at + self._data, len(self._buffer))
            chunk = memoryview(self._buffer)[self._at : stop]
            self._data -= len(chunk)
            self._at = stop
            yield chunk

    def extents(self) -> Iterator[tuple[int, memoryview]]:
        """The current entry's data as (offset in the file, bytes): more than one for long and for sparse files."""
        if self._extents is None:
            offset = 0
            for chunk in self.chunks():
                yield offset, chunk
                offset += len(chunk)
            return
        ranges = iter(self._extents)
        offset = left = 0
        for chunk in self.chunks():
            while chunk:
                if not left:
                    offset, left = next(ranges)
                piece = chunk[:left]
                yield offset, piece
                offset += len(piece)
                left -= len(piece)
                chunk = chunk[len(piece) :]  # what is left of it

    @property
    def position(self) -> int:
        """How far into the stream we are: after an entry, where its stored bytes begin."""
        return self._passed + self._at

    def contents(self, limit: int, what: str) -> bytes:
        """All data of the current entry, when it is a small one. Raises `DataError` above `limit` bytes."""
        if self._data > limit or self._extents is not None:
            raise DataError(f"{what}: {self._data} bytes; {limit} are allowed")
        return self._take(self._data, data=True)

    # From here on: how entries are found.

    def _next(self) -> Entry | None:
        self._skip()
        records: Records = {}
        name = link = None
        extended = False
        while True:
            block = self._take_block()
            if block == ZERO_BLOCK or not block:
                if extended:
                    raise DataError("tar: the archive ends behind an extended header")
                self._end(block)
                return None
            header = parse_header(block)
            kind = header.kind
            if kind in b"xXgLK":
                extended = kind != b"g" or extended
                data = self._extended(header)
                if kind == b"L":
                    name = data.partition(b"\0")[0]
                elif kind == b"K":
                    link = data.partition(b"\0")[0]
                elif kind == b"g":
                    self._remember(parse_records(data))
                else:
                    records.update(parse_records(data))
            elif kind == b"V":
                self._begin(header.size)
                self._skip()  # the volume's label
            elif kind == b"D":
                self._begin(header.size)  # GNU's incremental dumps: a directory whose data is a list of names
                return self._entry(header._replace(kind=b"5"), block, records, name, link, listed=True)
            else:
                return self._entry(header, block, records, name, link)

    def _entry(
        self,
        header: Header,
        block: bytes,
        records: Records,
        name: bytes | None,
        link: bytes | None,
        *,
        listed: bool = False,
    ) -> Entry:
        kind = _KINDS.get(header.kind)
        if kind is None:
            raise DataError(f"tar: entry {_shown(header.name)} is of the unknown type {header.kind!r}")
        size, uid, gid = header.size, header.uid, header.gid
        mtime_ns = header.mtime * 1_000_000_000
        name = header.name if name is None else name
        link = header.link if link is None else link
        xattrs = _NO_XATTRS
        if self._globals:
            records = {**self._globals, **records}
        if records:
            name = records.get(b"path") or name
            link = records.get(b"linkpath") or link
            size = decimal(records[b"size"], "size") if records.get(b"size") else size
            uid = decimal(records[b"uid"], "uid") if records.get(b"uid") else uid
            gid = decimal(records[b"gid"], "gid") if records.get(b"gid") else gid
            mtime_ns = nanoseconds(records[b"mtime"]) if records.get(b"mtime") else mtime_ns
            xattrs = {k[len(XATTR) :]: v for k, v in records.items() if k.startswith(XATTR)}
        if size < 0 or size > MAX_NUMBER:
            raise DataError(f"tar: entry {_shown(name)} has a size of {size} bytes")
        device = (0, 0)
        extents = None
        if kind is FILE:
            stored = size
            if header.kind == b"S":
                size, extents = gnu_sparse(block, stored, self._take)
            self._begin(stored)
            if extents is None and records and is_sparse(records):
                size, extents = pax_sparse(records, stored, self._take_data)
                name = records.get(b"GNU.sparse.name") or name
            elif name.endswith(b"/"):
                kind = DIRECTORY  # as v7 wrote them
        elif kind in (CHAR, BLOCK_DEVICE):
            device = (number(header.major), number(header.minor))
        if kind is not FILE and not listed:
            size = 0  # pax: whatever the field says, no data follows these
        self._extents = extents
        return Entry(name, kind, header.mode, uid, gid, size, mtime_ns, link, device, xattrs, extents)

    def _extended(self, header: Header) -> bytes:
        if not 0 <= header.size <= MAX_EXTENDED:
            raise DataError(f"tar: an extended header of {header.size} bytes; {MAX_EXTENDED} are allowed")
        self._begin(header.size)
        data = self._take_data(header.size)
        self._skip()
        return data

    def _remember(self, records: Records) -> None:
        """Global records hold for every entry that follows; an empty value takes one back."""
        for key, value in records.items():
            if value:
                self._globals[key] = value
            else:
                self._globals.pop(key, None)
        if sum(map(len, self._globals)) + sum(map(len, self._globals.values())) > MAX_EXTENDED:
            raise DataError(f"tar: global extended headers of more than {MAX_EXTENDED} bytes")

    def _end(self, block: bytes) -> None:
        """The end of the archive; what follows it is read, so that the stream's digest is of all of it."""
        if self._strict_end and (not block or self._take_block() != ZERO_BLOCK):
            raise DataError("tar: the archive is cut off: it has no end mark")
        self._buffer = b""
        self._at = 0
        while self._read(_CHUNK):
            pass

    # And how bytes are.

    def _begin(self, size: int) -> None:
        self._data = size
        self._padding = -size % BLOCK

    def _skip(self) -> None:
        padding = self._padding
        left = self._data + padding
        self._data = self._padding = 0
        while left:
            if self._at == len(self._buffer):
                if self._leap is not None:
                    self._passed += len(self._buffer) + left
                    self._buffer, self._at = b"", 0
                    self._leap(left)
                    return
                if left <= padding and not self._strict_end and not self._refill():
                    return  # umoci ends an archive with the last byte of its last file
                if self._at == len(self._buffer):
                    self._fill()
            step = min(left, len(self._buffer) - self._at)
            self._at += step
            left -= step

    def _take_data(self, size: int) -> bytes:
        if size > self._data:
            raise DataError("tar: an entry is shorter than what it says of itself")
        return self._take(size, data=True)

    def _take_block(self) -> bytes:
        """The next block; b"" where the stream ends between two."""
        stop = self._at + BLOCK
        if stop <= len(self._buffer):
            block = self._buffer[self._at : stop]
            self._at = stop
            return block
        if self._at == len(self._buffer):
            if not self._refill():
                return b""
        return self._take(BLOCK)

    def _take(self, size: int, *, data: bool = False) -> bytes:
        """Exactly `size` bytes."""
        if data:
            self._data -= size
        parts = []
        while size:
            if self._at == len(self._buffer):
                self._fill()
            part = self._buffer[self._at : self._at + size]
            self._at += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fill(self) -> None:
        if not self._refill():
            raise DataError("tar: the archive is cut off in the middle of an entry")

    def _refill(self) -> bool:
        self._passed += len(self._buffer)
        self._buffer, self._at = self._read(_CHUNK), 0
        return bool(self._buffer)


def _shown(name: bytes) -> str:
    return repr(name[:200].decode("utf-8", "backslashreplace"))
