"""Write tar entries: ustar where it can hold them, one pax extended header before those it cannot.

Deterministic: the same entries give the same bytes. Nothing of the writing machine goes in (no user names, no times of
reading).
"""

from __future__ import annotations

from knarr.store import tar
from knarr.store.tar_header import BLOCK
from knarr.store.tar_pax import XATTR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.store.tar import Entry

END = bytes(2 * BLOCK)
_KINDS = {
    tar.FILE: b"0", tar.HARDLINK: b"1", tar.SYMLINK: b"2", tar.CHAR: b"3", tar.BLOCK_DEVICE: b"4",
    tar.DIRECTORY: b"5", tar.FIFO: b"6",
}  # fmt: skip
_NAME, _PREFIX = 100, 155


class TarWriter:
    """`write(bytes)` gets the archive. After `entry` of a file, exactly its `size` bytes go to `data`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._left = 0
        self._padding = 0

    def entry(self, entry: Entry) -> None:
        """The header of an entry; its `extents` are not used, holes are written out."""
        self._finish()
        records: dict[bytes, bytes] = {}
        name = (
            entry.name + b"/" if entry.kind is tar.DIRECTORY and not entry.name.endswith(b"/") else entry.name
        )
        prefix, leaf = _split(name, records)
        link = entry.link
        if len(link) > _NAME or not link.isascii():
            records[b"linkpath"] = link
            link = link[:_NAME] if link.isascii() else b""
        seconds, fraction = divmod(entry.mtime_ns, 1_000_000_000)
        if fraction or not 0 <= seconds < 8**11:
            records[b"mtime"] = _time(entry.mtime_ns)
        for key, value in entry.xattrs.items():
            records[XATTR + key] = value
        fields = (
            leaf.ljust(_NAME, b"\0"),
            _octal(entry.mode, 8, b"", records),
            _octal(entry.uid, 8, b"uid", records),
            _octal(entry.gid, 8, b"gid", records),
            _octal(entry.size, 12, b"size", records),
            b"%011o\0" % (seconds if 0 <= seconds < 8**11 else 0),
        )
        if records:
            self._extended(records)
        self._header(b"".join(fields), _KINDS[entry.kind], link, entry.device, prefix)
        self._left = entry.size
        self._padding = -entry.size % BLOCK

    def data(self, chunk: bytes | memoryview) -> None:
        """Some of the current entry's bytes. More than it has is our bug."""
        self._left -= len(chunk)
        assert self._left >= 0
        self._write(bytes(chunk))

    def close(self) -> None:
        """The end mark."""
        self._finish()
        self._write(END)

    def _finish(self) -> None:
        assert self._left == 0
        if self._padding:
            self._write(bytes(self._padding))
            self._padding = 0

    def _header(self, head: bytes, kind: bytes, link: bytes, device: tuple[int, int], prefix: bytes) -> None:
        """`head` is the fields up to the checksum: name, mode, uid, gid, size, mtime."""
        tail = kind + link.ljust(_NAME, b"\0") + b"ustar\x0000" + bytes(64)
        tail += b"%07o\0%07o\0" % device + prefix.ljust(_PREFIX, b"\0") + bytes(12)
        checksum = sum(head) + sum(tail) + 8 * 0x20
        self._write(head + b"%06o\0 " % checksum + tail)

    def _extended(self, records: dict[bytes, bytes]) -> None:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
        head = b"PaxHeaders".ljust(_NAME, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % len(body)
        self._header(head + b"%011o\0" % 0, b"x", b"", (0, 0), b"")
        self._write(body + bytes(-len(body) % BLOCK))


def _split(name: bytes, records: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """(prefix, name) for the header; a pax record when they cannot hold it."""
    if name.isascii():
        if len(name) <= _NAME:
            return b"", name
        cut = name.rfind(b"/", 0, min(_PREFIX + 1, len(name) - 1))
        if cut > 0 and len(name) - cut - 1 <= _NAME:
            return name[:cut], name[cut + 1 :]
    records[b"path"] = name
    return b"", name[:_NAME] if name.isascii() else b"PaxPath"


def _octal(value: int, width: int, key: bytes, records: dict[bytes, bytes]) -> bytes:
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    assert key
    records[key] = b"%d" % value
    return b"0" * (width - 1) + b"\0"


def _time(nanoseconds: int) -> bytes:
    sign = b"-" if nanoseconds < 0 else b""
    seconds, fraction = divmod(abs(nanoseconds), 1_000_000_000)
    return (
        b"%b%d" % (sign, seconds) + (b".%09d" % fraction).rstrip(b"0")
        if fraction
        else b"%b%d" % (sign, seconds)
    )


def _record(key: bytes, value: bytes) -> bytes:
    """The length counts itself."""
    length = len(key) + len(value) + 3
    size = length + len(str(length))
    while length + len(str(size)) != size:
        size = length + len(str(size))
    return b"%d %b=%b\n" % (size, key, value)
