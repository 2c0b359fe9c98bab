"""One connection to a registry: requests go out, answers come in, one after the other.

    connection.exchange("GET", "/v2/", {...}, None) → the answer's head
    connection.read1(n)                             → its body, as it comes, b"" at the end

Bytes go from the socket to the caller without a buffer between: one system call for a quarter of a megabyte.
"""

from __future__ import annotations

import select

from knarr.registry import http
from knarr.registry.http import CHUNKED, HEAD_MAX, UNTIL_CLOSE, Nonsense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Stream(Protocol):
        """A connected socket, plain or in TLS."""

        def recv(self, size: int, /) -> bytes: ...
        def sendall(self, data: bytes, /) -> None: ...
        def fileno(self) -> int: ...
        def close(self) -> None: ...


_RECEIVE = 64 * 1024
_LINE_MAX = 4096
_INTERIM_MAX = 8  # 1xx answers before the one that counts


class Cut(Exception):
    """The other side ended the connection in the middle of an answer."""


class Silent(Exception):
    """The other side ended the connection without a word in answer."""


class Connection:
    """For one thread at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = b""  # came, not yet read
        self._left = 0  # of the body or of the current chunk; or UNTIL_CLOSE
        self._chunked = False
        self._keeps = True
        self._ended = True  # the body, where its end is known
        self.requests = 0

    def exchange(self, method: str, target: str, fields: Mapping[str, str], body: bytes | None) -> http.Head:
        """One request, and the head of its answer. Raises `OSError`, `Silent`, `Cut`, `NotHttp`, `Nonsense`."""
        self.requests += 1
        self._ended = False
        self._stream.sendall(http.request(method, target, fields, body) + (body or b""))
        head = self._final_head()
        self._left = http.body_length(method, head)
        self._chunked = self._left == CHUNKED
        if self._chunked:
            self._left = 0
        self._keeps = http.stays_open(head) and self._left != UNTIL_CLOSE
        self._ended = self._left == 0 and not self._chunked
        return head

    def read1(self, size: int) -> bytes:
        """Up to `size` bytes of the body, at least one before its end. Raises `OSError`, `Cut`, `Nonsense`."""
        if self._ended:
            return b""
        if self._chunked and not self._left and not self._next_chunk():
            return b""
        chunk = self._some(size if self._left == UNTIL_CLOSE else min(size, self._left))
        if self._left == UNTIL_CLOSE:
            self._ended = not chunk
            return chunk
        if not chunk:
            raise Cut
        self._left -= len(chunk)
        if not self._left:
            if self._chunked:
                if self._line():
                    raise Nonsense("a chunk longer than it says")
            else:
                self._ended = True
        return chunk

    def tunnel(self, place: str, fields: Mapping[str, str]) -> int:
        """Ask a proxy for a way to `host:port`; its status. After a 2xx the stream speaks to that host."""
        self._stream.sendall(http.request("CONNECT", place, fields, None))
        head = self._final_head()
        if self._buffer:
            raise Nonsense("a proxy that speaks before it is asked")
        return head.status

    @property
    def reusable(self) -> bool:
        """The answer was read to its end, nothing came behind it, and both sides go on."""
        return self._ended and self._keeps and not self._buffer

    def is_dropped(self) -> bool:
        """Of an idle one: something came that nobody asked for, mostly its end."""
        poll = select.poll()
        try:
            poll.register(self._stream.fileno(), select.POLLIN)
            return bool(poll.poll(0))
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        self._ended, self._keeps = True, False
        try:
            self._stream.close()
        except OSError:
            pass  # TLS says goodbye, and nobody is there

    def _final_head(self) -> http.Head:
        for _ in range(_INTERIM_MAX):
            head = self._head()
            if head.status >= 200:
                return head
        raise Nonsense("answers that never become one")

    def _head(self) -> http.Head:
        while not (end := http.head_end(self._buffer)):
            more = self._stream.recv(_RECEIVE)
            if not more:
                raise Cut if self._buffer else Silent
            self._buffer += more
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return http.parse_head(data)

    def _some(self, size: int) -> bytes:
        if self._buffer:
            chunk, self._buffer = self._buffer[:size], self._buffer[size:]
            return chunk
        return self._stream.recv(size)

    def _next_chunk(self) -> bool:
        self._left = http.chunk_size(self._line())
        if self._left:
            return True
        seen = 0
        while line := self._line():  # trailers say nothing that we want to know
            seen += len(line)
            if seen > HEAD_MAX:
                raise Nonsense("trailers without end")
        self._ended = True
        return False

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LINE_MAX:
                raise Nonsense("a line without end")
            more = self._stream.recv(_RECEIVE)
            if not more:
                raise Cut
            self._buffer += more
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")
