"""D-Bus messages as bytes (D-Bus specification, "Marshaling" and "Message Protocol"). Pure.

Written here because a start asks systemd for a scope: the library for it takes longer to import than the rest of the
start together. Values are Python's own; a variant is (signature, value), `ay` is bytes.
"""

from __future__ import annotations

import struct

from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
# Header fields by number.
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = 1, 2, 3, 4, 5, 6, 7, 8
_LARGEST = 1 << 27
_DEEPEST = 64

_FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "h": "I", "x": "q", "t": "Q", "d": "d"}
_ALIGNMENT = {
    "y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "h": 4, "s": 4, "o": 4, "a": 4,
    "x": 8, "t": 8, "d": 8, "(": 8, "{": 8,
}  # fmt: skip


class Message(Record):
    kind: int
    serial: int
    fields: dict[int, Any]
    body: tuple[Any, ...]


def method_call(
    serial: int,
    destination: str,
    path: str,
    interface: str,
    member: str,
    signature: str = "",
    body: Sequence[Any] = (),
) -> bytes:
    """A call, ready to be sent."""
    fields = [
        (PATH, ("o", path)),
        (INTERFACE, ("s", interface)),
        (MEMBER, ("s", member)),
        (DESTINATION, ("s", destination)),
    ]
    if signature:
        fields.append((SIGNATURE, ("g", signature)))
    data = encode(signature, body)
    head = struct.pack("<cBBBII", b"l", METHOD_CALL, 0, 1, len(data), serial)
    header = bytearray(head)
    _put(header, "a(yv)", fields)
    _pad(header, 8)
    return bytes(header) + data


def encode(signature: str, values: Sequence[Any]) -> bytes:
    """Values of a signature's types. Raises `ValueError`, `struct.error`."""
    out = bytearray()
    for kind, value in zip(types(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _put(out: bytearray, kind: str, value: Any) -> None:
    first = kind[0]
    _pad(out, _ALIGNMENT[first])
    if first in _FIXED:
        out += struct.pack("<" + _FIXED[first], value)
    elif first in "so":
        data = value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif first == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif first == "v":
        _put(out, "g", value[0])
        _put(out, *value)
    elif first == "a":
        length = len(out)
        out += b"\0\0\0\0"
        _pad(out, _ALIGNMENT[kind[1]])
        begin = len(out)
        for item in value.items() if kind[1] == "{" else value:
            _put(out, kind[1:], item)
        out[length : length + 4] = struct.pack("<I", len(out) - begin)
    else:
        for inner, item in zip(types(kind[1:-1]), value, strict=True):
            _put(out, inner, item)


def _pad(out: bytearray, to: int) -> None:
    out += bytes(-len(out) % to)


def types(signature: str) -> Iterator[str]:
    """The single complete types of a signature. Raises `ValueError`."""
    at = 0
    while at < len(signature):
        end = _end_of_type(signature, at)
        yield signature[at:end]
        at = end


def _end_of_type(signature: str, at: int) -> int:
    start, depth = at, 0
    while at < len(signature) and at - start < 256:
        one = signature[at]
        at += 1
        if one in "({":
            depth += 1
        elif one in ")}":
            depth -= 1
        elif one not in _ALIGNMENT:
            break
        if depth == 0 and one != "a":
            return at
    raise ValueError(f"bad D-Bus signature {signature!r}")


def message_size(data: bytes | bytearray) -> int:
    """How long the message at the beginning of `data` is; 0 while too little is there. Raises `ValueError`."""
    if len(data) < 16:
        return 0
    if data[:1] not in (b"l", b"B") or data[3] != 1:
        raise ValueError("not a D-Bus message")
    body, _, fields = struct.unpack_from(_order(data) + "III", data, 4)
    size = int(16 + (fields + 7) // 8 * 8 + body)
    if size > _LARGEST:
        raise ValueError(f"a D-Bus message of {size} bytes")
    return size


def parse(data: bytes) -> Message:
    """One whole message. Raises `ValueError`."""
    try:
        reader = _Reader(data, _order(data))
        body_size, serial = struct.unpack_from(reader.order + "II", data, 4)
        reader.at = 12
        fields = {number: value for number, (_, value) in reader.take("a(yv)")}
        reader.at = len(data) - body_size
        body = tuple(reader.take(kind) for kind in types(fields.get(SIGNATURE, "")))
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as e:
        raise ValueError(f"a damaged D-Bus message: {e}") from e
    return Message(data[1], serial, fields, body)


def _order(data: bytes | bytearray) -> str:
    return "<" if data[:1] == b"l" else ">"


class _Reader:
    def __init__(self, data: bytes, order: str) -> None:
        self.data = data
        self.order = order
        self.at = 0
        self.depth = 0

    def take(self, kind: str) -> Any:
        first = kind[0]
        self._align(_ALIGNMENT[first])
        if first in _FIXED:
            (value,) = struct.unpack_from(self.order + _FIXED[first], self.data, self.at)
            self.at += struct.calcsize(_FIXED[first])
            return bool(value) if first == "b" else value
        if first in "so":
            return self._text(self.take("u"))
        if first == "g":
            return self._text(self.take("y"))
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError("a D-Bus message nested too deeply")
        value = self._container(first, kind)
        self.depth -= 1
        return value

    def _container(self, first: str, kind: str) -> Any:
        if first == "v":
            inner = self.take("g")
            if _end_of_type(inner, 0) != len(inner):
                raise ValueError(f"a variant of {inner!r}")
            return inner, self.take(inner)
        if first == "a":
            size = self.take("u")
            self._align(_ALIGNMENT[kind[1]])
            end = self.at + size
            if end > len(self.data):
                raise ValueError("an array longer than its message")
            items = []
            while self.at < end:
                before = self.at
                items.append(self.take(kind[1:]))
                if self.at == before:
                    raise ValueError("an array of nothing")
            if kind[1] == "y":
                return bytes(items)
            return dict(items) if kind[1] == "{" else items
        return tuple(self.take(inner) for inner in types(kind[1:-1]))

    def _text(self, size: int) -> str:
        if self.at + size >= len(self.data):
            raise ValueError("a string longer than its message")
        text = self.data[self.at : self.at + size].decode()
        self.at += size + 1
        return text

    def _align(self, to: int) -> None:
        self.at += -self.at % to
