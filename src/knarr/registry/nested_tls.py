"""TLS inside a TLS connection: to a registry over HTTPS, through a proxy that is itself spoken to over HTTPS."""

from __future__ import annotations

import ssl
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from knarr.registry.connection import Stream

    T = TypeVar("T")

_RECEIVE = 64 * 1024


class NestedTls:
    """A stream over `outer`. It belongs to us from now on."""

    def __init__(self, outer: Stream, context: ssl.SSLContext, server_name: str) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._until(self._inner.do_handshake)

    def recv(self, size: int, /) -> bytes:
        try:
            return self._until(partial(self._inner.read, size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def sendall(self, data: bytes, /) -> None:
        sent = 0
        while sent < len(data):
            sent += self._until(partial(self._inner.write, data[sent:]))

    def fileno(self) -> int:
        return self._outer.fileno()

    def close(self) -> None:
        self._outer.close()

    def _until(self, step: Callable[[], T]) -> T:
        """What `step` gives, once the other side has sent what it needs."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._send()
                came = self._outer.recv(_RECEIVE)
                if came:
                    self._incoming.write(came)
                else:
                    self._incoming.write_eof()
                continue
            self._send()
            return done

    def _send(self) -> None:
        if self._outgoing.pending:
            self._outer.sendall(self._outgoing.read())
