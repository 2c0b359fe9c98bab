"""One 512-byte header block of a tar archive: its fields, its numbers, its checksum (POSIX.1-2024 pax, GNU tar, v7).

0 name 100 mode 108 uid 116 gid 124 size 136 mtime 148 checksum 156 type 157 link 257 magic and version
265 owner 297 group 329 major 337 minor 345 prefix (POSIX) or times and sparse map (GNU) 500
"""

from __future__ import annotations

import functools
import struct
import zlib

from knarr.errors import DataError
from knarr.record import Record

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
MAX_NUMBER = (1 << 63) - 1

_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32x32x8s8s155s12s")
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_ADLER = 65521


class Header(Record):
    """The fields as they stand in the block, numbers read, nothing yet overridden by an extended header."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    kind: bytes
    link: bytes
    gnu: bool
    major: bytes  # read only for devices: other writers leave garbage there
    minor: bytes


def parse_header(block: bytes) -> Header:
    """The header in `block`, 512 bytes that are not all zero. Raises `DataError`."""
    name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix, tail = (
        _FIELDS.unpack(block)
    )
    _verify(block, checksum)
    name = name.partition(b"\0")[0]
    if prefix[0] and magic == _POSIX:
        if tail.endswith(b"tar\0"):
            prefix = prefix[:131]  # star keeps access and change times in the prefix's end
        name = prefix.partition(b"\0")[0] + b"/" + name
    return Header(
        name,
        number(mode),
        number(uid),
        number(gid),
        number(size),
        number(mtime),
        kind,
        link.partition(b"\0")[0],
        magic == _GNU,
        major,
        minor,
    )


@functools.lru_cache(2048)
def number(field: bytes) -> int:
    """A numeric field: octal text ended by a space or NUL, or GNU's base-256. Raises `DataError`."""
    if field[0] & 0x80:
        return _base256(field)
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    try:
        # isdigit: int() would also take signs, underscores and "0o".
        return int(digits, 8) if digits.isdigit() else _bad_number(field)
    except ValueError:
        return _bad_number(field)


def _base256(field: bytes) -> int:
    """Two's complement, big endian; the first bit only says that it is so, the second is the sign."""
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    if field[0] & 0x40:
        value -= 1 << (8 * len(field) - 1)
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        _bad_number(field)
    return value


def _bad_number(field: bytes) -> int:
    raise DataError(f"tar header: {field!r} is not a number")


def _verify(block: bytes, field: bytes) -> None:
    """The checksum is the sum of all bytes, its own field taken as spaces."""
    try:
        stored = number(field)
    except DataError:
        stored = -1
    # Adler-32's lower half is one more than the sum, modulo 65521: a sum at the speed of C.
    rest = (zlib.adler32(block) & 0xFFFF) - 1
    if (stored - rest + sum(field) - 256) % _ADLER == 0 and 0 <= stored <= 255 * BLOCK:
        return
    blanked = block[:148] + b" " * 8 + block[156:]
    signed = sum(struct.unpack("512b", blanked))  # some old writers summed signed characters
    if stored != signed:
        raise DataError("tar header: wrong checksum: the archive is damaged, or it is not a tar archive")
