"""HTTP/1.1 as a registry speaks it (RFC 9112): a request as bytes, the head of an answer, how its body ends. Pure.

Strict where two readers could understand an answer differently (two lengths, an unknown encoding, a line that is no
field): such an answer is refused, as Go's clients refuse it.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_MAX = 64 * 1024
CHUNKED, UNTIL_CLOSE = -1, -2  # how long a body is, when it is not a number of bytes
_FIELDS_MAX = 256
_LENGTH_DIGITS = 18
# RFC 9110 5.6.2: what a field's name is made of
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_SAFE = "/?:@!$&'()*+,;=~%-._"  # of a path and a query; what is percent-encoded stays so


class NotHttp(Exception):
    """What came is no answer of HTTP/1."""


class Nonsense(ValueError):
    """An answer that breaks the rules. Its text names the part."""


class Headers:
    """An answer's fields, by names of any case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in fields:
            self._fields.setdefault(name.lower(), []).append(value)

    def get(self, name: str, default: str = "") -> str:
        """The field's value; of several, all of them with commas between (RFC 9110 5.3)."""
        found = self._fields.get(name.lower())
        return ", ".join(found) if found else default

    def getlist(self, name: str) -> list[str]:
        """Each time the field came."""
        return list(self._fields.get(name.lower(), ()))


class Head(Record):
    """An answer before its body. `minor`: of HTTP/1.minor."""

    status: int
    headers: Headers
    minor: int


def request(method: str, target: str, fields: Mapping[str, str], body: bytes | None) -> bytes:
    """A request's head; `body` follows it. Raises `ValueError` for a field that would be two."""
    lines = [f"{method} {target} HTTP/1.1"]
    if body is not None:
        fields = {**fields, "Content-Length": str(len(body))}
    for name, value in fields.items():
        if not all(c in " \t" or c.isprintable() for c in value):
            raise ValueError(f"control characters in {name}")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def target_of(url: str, *, absolute: bool) -> str:
    """What a request line says of a URL: path and query, all of it to a proxy. Whatever is in it, it is one word."""
    parts = urlsplit(url)
    target = quote(parts.path or "/", _SAFE)
    if parts.query:
        target += "?" + quote(parts.query, _SAFE)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{target}" if absolute else target


def head_end(data: bytes) -> int:
    """Where the body begins, 0 while the head is not whole. Raises `NotHttp` as soon as it cannot become one."""
    if not b"HTTP/1.".startswith(data[:7]):
        raise NotHttp
    ends = [at + len(mark) for mark in (b"\r\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    if not ends and len(data) > HEAD_MAX:
        raise Nonsense("headers without end")
    return min(ends, default=0)


def parse_head(data: bytes) -> Head:
    """A whole head, with its empty line. Raises `NotHttp`, `Nonsense`."""
    first, *lines = data.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if (
        version not in ("HTTP/1.0", "HTTP/1.1")
        or not (code.isascii() and code.isdigit())
        or rest[3:4].strip()
    ):
        raise NotHttp
    if len(code) != 3 or code < "100":
        raise NotHttp
    if len(lines) > _FIELDS_MAX:
        raise Nonsense(f"more than {_FIELDS_MAX} headers")
    return Head(int(code), Headers(map(_field, lines)), int(version[-1]))


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or not _TOKEN.issuperset(name.encode("latin-1")):
        raise Nonsense(f"{line[:40]!r} is no header")
    return name, value.strip(" \t")


def body_length(method: str, head: Head) -> int:
    """Bytes of the body that follows, or `CHUNKED`, or `UNTIL_CLOSE` (RFC 9112 6.3). Raises `Nonsense`."""
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        return 0
    coding = head.headers.get("Transfer-Encoding").lower()
    if coding:
        if coding != "chunked":
            raise Nonsense(f"a transfer encoding {coding[:40]!r}")
        return CHUNKED
    lengths = {text.strip() for text in head.headers.get("Content-Length").split(",")}
    if lengths == {""}:
        return UNTIL_CLOSE
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdigit()) or len(text) > _LENGTH_DIGITS:
        raise Nonsense("a content length that is none")
    return int(text)


def stays_open(head: Head) -> bool:
    """May the connection carry another request, once the body has been read (RFC 9112 9.3)."""
    options = {word.strip() for word in head.headers.get("Connection").lower().split(",")}
    return "close" not in options and (head.minor > 0 or "keep-alive" in options)


def chunk_size(line: bytes) -> int:
    """Bytes of the chunk that a line announces; extensions are passed over (RFC 9112 7.1). Raises `Nonsense`."""
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
        raise Nonsense("a chunk without a length")
    return int(digits, 16)
