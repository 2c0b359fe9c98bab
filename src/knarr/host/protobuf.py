"""Protocol Buffers' wire format, as much of it as a request to criu needs (https://protobuf.dev/programming-guides/encoding).

A message is a list of (field number, value): a number or truth value (varint), text or bytes, or a message again. It is
read as {field number: [values]}, where a value is a number or the bytes of whatever it is.
"""

from __future__ import annotations

from knarr.errors import DataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Field = tuple[int, "int | str | bytes | list[Field]"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def encode(fields: Iterable[Field]) -> bytes:
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3 | _VARINT) + _varint(value)
            continue
        data = (
            value.encode() if isinstance(value, str) else value if isinstance(value, bytes) else encode(value)
        )
        out += _varint(number << 3 | _BYTES) + _varint(len(data)) + data
    return bytes(out)


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """Raises `DataError`."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _read_varint(data, at)
        elif kind in (_BYTES, _FIXED64, _FIXED32):
            size, at = _read_varint(data, at) if kind == _BYTES else (8 if kind == _FIXED64 else 4, at)
            value = data[at : at + size]
            at += size
            if at > len(data):
                raise DataError("protocol buffers: a field is cut off")
        else:
            raise DataError(f"protocol buffers: unknown wire type {kind}")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are ten bytes long
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise DataError("protocol buffers: a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise DataError("protocol buffers: a number is too long")
