"""Extended headers of a tar archive: pax records, and the sparse maps of GNU tar in all its generations.

pax record      LENGTH SPACE KEY "=" VALUE NEWLINE       LENGTH in decimal counts the whole record
sparse 0.0      GNU.sparse.offset and GNU.sparse.numbytes, repeated, in order
sparse 0.1      GNU.sparse.map=OFFSET,LENGTH,…           and the name in GNU.sparse.name
sparse 1.0      the map is at the head of the data: COUNT NL (OFFSET NL LENGTH NL)…, filled up to a block
sparse GNU      in the header itself at 386, and in extension blocks
"""

from __future__ import annotations

from knarr.errors import DataError
from knarr.store.tar_header import BLOCK, MAX_NUMBER, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Extents = tuple[tuple[int, int], ...]
Records = dict[bytes, bytes]

XATTR = b"SCHILY.xattr."
_REPEATED = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_SPARSE_MAP = b"GNU.sparse.map"
MAX_EXTENTS = 1 << 18  # ranges of one sparse file: what is kept in memory must have an end
_MAX_DIGITS = 20


def parse_records(data: bytes) -> Records:
    """The records of one extended header. The pairs of sparse 0.0 come out as the map of 0.1. Raises `DataError`."""
    records: Records = {}
    repeated: list[bytes] = []
    for key, value in _split(data):
        if key in _REPEATED:
            if key != _REPEATED[len(repeated) % 2]:
                raise DataError("tar: a sparse file's offsets and lengths do not alternate")
            repeated.append(value)
        else:
            records[key] = value
    if repeated:
        records[_SPARSE_MAP] = b",".join(repeated)
    return records


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + _MAX_DIGITS)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            if not data[at:].strip(b"\0"):
                return  # some writers fill the block up and count it
            raise DataError("tar: an extended header's record does not begin with its length")
        stop = at + int(digits)
        if stop > end or stop <= space + 1 or data[stop - 1] != 0x0A:
            raise DataError("tar: an extended header's record has a wrong length")
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if not equals or not key:
            raise DataError("tar: an extended header's record without `=`")
        yield key, value
        at = stop


def decimal(text: bytes, what: str) -> int:
    """A whole number of a pax record. Raises `DataError`."""
    if text.isdigit() and len(text) <= _MAX_DIGITS and (value := int(text)) <= MAX_NUMBER:
        return value
    raise DataError(f"tar: {what}: {text[:40]!r} is not a number")


def nanoseconds(text: bytes) -> int:
    """A time of a pax record, seconds with any number of decimals, as nanoseconds. Raises `DataError`."""
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS or (fraction and not fraction.isdigit()):
        raise DataError(f"tar: mtime: {text[:40]!r} is not a time")
    value = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if whole.startswith(b"-") else value


def is_sparse(records: Records) -> bool:
    return _SPARSE_MAP in records or b"GNU.sparse.major" in records or b"GNU.sparse.size" in records


def pax_sparse(records: Records, stored: int, take: Callable[[int], bytes]) -> tuple[int, Extents]:
    """(real size, extents) of a file whose records say it is sparse.

    `take` reads from the file's data, of which there are `stored` bytes. Raises `DataError`.
    """
    major, minor = records.get(b"GNU.sparse.major", b"0"), records.get(b"GNU.sparse.minor", b"")
    if (major, minor) == (b"1", b"0"):
        values, used = _map_in_data(stored, take)
        size = records.get(b"GNU.sparse.realsize")
    elif major == b"0":
        text = records.get(_SPARSE_MAP, b"")
        values = [decimal(v, "sparse map") for v in text.split(b",")] if text else []
        used = 0
        size = records.get(b"GNU.sparse.size") or records.get(b"GNU.sparse.realsize")
    else:
        raise DataError(f"tar: sparse format {major[:9]!r}.{minor[:9]!r} is not known")
    if size is None:
        raise DataError("tar: a sparse file without its size")
    real = decimal(size, "sparse size")
    return real, _extents(values, real, stored - used)


def _map_in_data(stored: int, take: Callable[[int], bytes]) -> tuple[list[int], int]:
    lines: list[bytes] = []
    rest = b""
    used, wanted = 0, 1
    while len(lines) < wanted:
        if used >= stored:
            raise DataError("tar: a sparse map longer than its file")
        *whole, rest = (rest + take(BLOCK)).split(b"\n")
        used += BLOCK
        lines += whole
        if wanted == 1 and lines:
            count = decimal(lines[0], "sparse map")
            if count > MAX_EXTENTS:
                raise DataError(f"tar: a sparse file of {count} ranges; {MAX_EXTENTS} are allowed")
            wanted = 1 + 2 * count
        if len(rest) > _MAX_DIGITS and len(lines) < wanted:
            raise DataError("tar: a sparse map that is not one")
    return [decimal(line, "sparse map") for line in lines[1:wanted]], used


def gnu_sparse(block: bytes, stored: int, take: Callable[[int], bytes]) -> tuple[int, Extents]:
    """(real size, extents) of an old GNU sparse file; `take` reads the extension blocks behind its header."""
    values = _gnu_pairs(block, 386, 4)
    extended = block[482]
    while extended:
        more = take(BLOCK)
        values += _gnu_pairs(more, 0, 21)
        extended = more[504]
        if len(values) > 2 * MAX_EXTENTS:
            raise DataError(f"tar: a sparse file of more than {MAX_EXTENTS} ranges")
    real = number(block[483:495])
    return real, _extents(values, real, stored)


def _gnu_pairs(block: bytes, at: int, count: int) -> list[int]:
    values = []
    for start in range(at, at + 24 * count, 24):
        if not block[start + 12]:
            break  # an unused slot
        values += [number(block[start : start + 12]), number(block[start + 12 : start + 24])]
    return values


def _extents(values: list[int], real: int, stored: int) -> Extents:
    if len(values) % 2 or len(values) > 2 * MAX_EXTENTS:
        raise DataError("tar: a sparse map with an odd or absurd number of entries")
    at = total = 0
    extents = []
    for offset, length in zip(values[::2], values[1::2], strict=True):
        if offset < at or length < 0 or offset + length > real:
            raise DataError("tar: a sparse map whose ranges overlap or leave the file")
        at = offset + length
        total += length
        if length:
            extents.append((offset, length))
    if total != stored:
        raise DataError(f"tar: a sparse map of {total} bytes for {stored} bytes of data")
    return tuple(extents)
