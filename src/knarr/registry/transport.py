"""One HTTP exchange with a registry: connections kept for the next one, redirects, a network's troubles as our errors.

What must not follow a redirect: `Authorization` stays with the host it was meant for, and none leads from HTTPS to
HTTP.

Our own and no HTTP library: importing one took longer than fetching and unpacking a layer of 20 MB.
"""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urljoin, urlsplit
from weakref import WeakSet

from knarr import __version__
from knarr.errors import DataError, RemoteError
from knarr.record import Record
from knarr.registry import proxies
from knarr.registry.connection import Silent
from knarr.registry.failures import Cancelled, Transient, Unreachable, clean
from knarr.registry.http import Head, target_of
from knarr.registry.reach import Route, connect, parse_proxy, place_of
from knarr.registry.registries import Trust
from knarr.registry.translation import TROUBLES, translated

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from knarr.registry.connection import Connection

REDIRECTS_MAX = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SPEED_MIN = 512  # bytes per second; slower than that for a whole read timeout is a stall
_ERROR_BODY_MAX = 64 * 1024
_DRAIN_MAX = 16 * 1024
_IDLE_MAX = 8  # connections to one host


_Key = tuple[str, str, Trust]  # scheme, host, how far it is believed: who may share a connection


class Limits(Record):
    """Seconds. `read_s` is for each wait on the socket, not for a whole answer."""

    connect_s: float = 15.0
    read_s: float = 45.0


DEFAULT_LIMITS = Limits()


class Transport:
    """Safe for several threads. `trust` says how far a host is believed that a redirect leads to."""

    def __init__(
        self,
        trust: Callable[[str], Trust],
        certificates: tuple[str, ...],
        env: Mapping[str, str],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.cancelled = threading.Event()
        self.limits = limits
        self._trust = trust
        self._certificates = certificates
        self._env = env
        self._lock = threading.Lock()
        self._idle: dict[_Key, list[Connection]] = {}
        self._routes: dict[_Key, Route] = {}
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._answered: set[str] = set()

    def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        trust: Trust,
        *,
        body: bytes | None = None,
        follow: bool = True,
    ) -> Answer:
        """One request, redirects followed. Raises `Transient`, `Unreachable`, `WrongScheme`, `RemoteError`."""
        first = host_of(url)
        given = dict(headers)
        seen = {url}
        for _ in range(REDIRECTS_MAX + 1):
            answer = self._exchange(method, url, given, trust, body)
            target = answer.headers.get("Location")
            if not follow or answer.status not in _REDIRECTS or not target:
                return answer
            answer.drain()
            url, before = _redirected(url, target), url
            if url in seen:
                raise RemoteError(f"registry {first} redirects in a loop, at {clean(url)[:120]}")
            seen.add(url)
            if host_of(url) != host_of(before) or scheme_of(url) != scheme_of(before):
                given.pop("Authorization", None)
                trust = self._trust(host_of(url))
                if scheme_of(url) == "http" and scheme_of(before) == "https" and not trust.plain:
                    raise RemoteError(
                        f"registry {first} redirects from HTTPS to plain HTTP, at {host_of(url)}"
                    )
        raise RemoteError(f"registry {first} redirects more than {REDIRECTS_MAX} times")

    def cancel(self) -> None:
        """Wakes every thread that reads or waits; they end with `Cancelled`."""
        self.cancelled.set()
        with self._lock:
            live = list(self._sockets)
        for each in live:
            _shut(each)

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            idle = [each for kept in self._idle.values() for each in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def has_answered(self, host: str) -> bool:
        """Whether `host` has ever answered: then a refused connection is worth another attempt."""
        return host in self._answered

    def translate(self, error: Exception, host: str) -> Exception:
        """The seam: what the connection, the socket or TLS raised, as an error of ours."""
        if self.cancelled.is_set():
            return Cancelled()
        found = translated(error, host)
        if isinstance(found, Unreachable) and self.has_answered(host):
            return Transient(found.message, hint=found.hint)
        return found

    def _adopt(self, connected: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connected)
        if self.cancelled.is_set():
            _shut(connected)

    def keep(self, key: _Key, connection: Connection) -> None:
        """For the next request; closed when its answer was not read to the end."""
        if connection.reusable and not self.cancelled.is_set():
            with self._lock:
                idle = self._idle.setdefault(key, [])
                if len(idle) < _IDLE_MAX:
                    idle.append(connection)
                    return
        connection.close()

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], trust: Trust, body: bytes | None
    ) -> Answer:
        host = host_of(url)
        fields = {
            "Host": host, "User-Agent": f"knarr/{__version__}", "Accept-Encoding": "identity", **headers,
        }  # fmt: skip
        while True:
            if self.cancelled.is_set():
                raise Cancelled
            connection = None
            try:
                key = (scheme_of(url), host, trust)
                route = self._route(key, url)
                connection = self._kept(key) or self._connect(route)
                if route.whole_urls and route.proxy is not None and route.proxy.authorization:
                    fields["Proxy-Authorization"] = route.proxy.authorization
                target = target_of(url, absolute=route.whole_urls)
                head = connection.exchange(method, target, fields, body)
            except (*TROUBLES, OSError, ValueError) as e:
                if connection is not None:
                    connection.close()
                    if connection.requests > 1 and body is None and isinstance(e, (Silent, ConnectionError)):
                        continue  # the server had let go of a connection we kept (RFC 9110 9.2.2)
                raise self.translate(e, host) from e
            self._answered.add(host)
            return Answer(self, key, connection, head)

    def _kept(self, key: _Key) -> Connection | None:
        while True:
            with self._lock:
                idle = self._idle.get(key)
                connection = idle.pop() if idle else None
            if connection is None or not connection.is_dropped():
                return connection
            connection.close()

    def _connect(self, route: Route) -> Connection:
        return connect(route, self.limits.connect_s, self.limits.read_s, self._adopt)

    def _route(self, key: _Key, url: str) -> Route:
        with self._lock:
            found = self._routes.get(key)
            if found is None:
                found = self._routes[key] = self._new_route(key, url)
        return found

    def _new_route(self, key: _Key, url: str) -> Route:
        scheme, host, trust = key
        name, port = place_of(url)
        context = self._context(host, trust) if scheme == "https" else None
        address = proxies.proxy_for(scheme, host, self._env)
        if not address:
            return Route(name, port, context)
        proxy = parse_proxy(address)
        its = self._context(f"{proxy.host}:{proxy.port}", Trust()) if proxy.scheme == "https" else None
        return Route(name, port, context, proxy, its)

    def _context(self, host: str, trust: Trust) -> ssl.SSLContext:
        from knarr.registry import tls

        return tls.context(host, trust, self._certificates)


class Answer:
    """A response whose body has not been read. Close it, or read it to its end."""

    def __init__(self, transport: Transport, key: _Key, connection: Connection, head: Head) -> None:
        self.status = head.status
        self.headers = head.headers
        self.host = key[1]  # who answered in the end
        self._transport = transport
        self._key = key
        self._connection: Connection | None = connection
        self._came = 0
        self._waited_s = 0.0
        self._said: bytes | None = None

    def read1(self, size: int) -> bytes:
        """Up to `size` bytes as they come; `b""` at the end. Raises as `Transport.open`, and `Transient` on a stall."""
        if self._connection is None:
            return b""
        asked = time.monotonic()
        try:
            chunk = self._connection.read1(size)
        except (*TROUBLES, OSError, ValueError) as e:
            self.close()
            raise self._transport.translate(e, self.host) from e
        if self._transport.cancelled.is_set():
            self.close()
            raise Cancelled
        self._count(len(chunk), time.monotonic() - asked)
        return chunk

    def _count(self, size: int, waited_s: float) -> None:
        """A server that sends a byte now and then never times out. Only the waiting counts, not what we do between."""
        self._came += size
        self._waited_s += waited_s
        window = self._transport.limits.read_s
        if self._waited_s > window:
            if self._came < window * _SPEED_MIN:
                self.close()
                raise Transient(f"registry {self.host} sends too slowly: {self._came} bytes in {window:g} s")
            self._came, self._waited_s = 0, 0.0

    def read_all(self, limit: int, what: str) -> bytes:
        """The whole body, at most `limit` bytes. Raises `DataError` when it is larger."""
        declared = self.length
        if declared is not None and declared > limit:
            self.close()
            raise DataError(
                f"{what}: registry {self.host} announces {declared} bytes, more than the {limit} allowed"
            )
        parts: list[bytes] = []
        total = 0
        while chunk := self.read1(64 * 1024):
            parts.append(chunk)
            total += len(chunk)
            if total > limit:
                self.close()
                raise DataError(f"{what}: registry {self.host} sends more than the {limit} bytes allowed")
        self.release()
        return b"".join(parts)

    def error_body(self) -> bytes:
        """What an error answer says, cut, whatever happens on the way. May be asked again."""
        if self._said is None:
            self._said = b""
            try:
                self._said = self.read_all(_ERROR_BODY_MAX, "error answer")
            except Cancelled:
                raise
            except (DataError, RemoteError):
                pass
        return self._said

    @property
    def length(self) -> int | None:
        """Content-Length, when there is one that makes sense."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isdecimal() and len(text) < 19 else None

    @property
    def encoded(self) -> str:
        """A Content-Encoding nobody asked for: the bytes are not what their digest is about."""
        found = self.headers.get("Content-Encoding")
        return "" if found.lower() == "identity" else found

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After (RFC 9110 10.2.3): seconds, or a date."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdecimal() and len(text) < 10:
            return float(text)
        from email.utils import parsedate_to_datetime

        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time()) if text else None
        except (ValueError, OverflowError):
            return None

    def drain(self) -> None:
        """Reads a short body so that the connection can be used again; a long one costs the connection instead."""
        left = _DRAIN_MAX
        try:
            while left > 0 and (chunk := self.read1(left)):
                left -= len(chunk)
        except (DataError, RemoteError):
            return
        self.release()

    def release(self) -> None:
        """Gives the connection back for the next request; closes it when the body was not read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.keep(self._key, connection)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _shut(connected: socket.socket) -> None:
    try:
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not TLS's own: its reader is in another thread
    except OSError:
        pass  # it ended by itself in this moment


def host_of(url: str) -> str:
    """`127.0.0.1:5000`; a default port is left out, user names too."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, "\n"))


def scheme_of(url: str) -> str:
    return urlsplit(url).scheme


def _redirected(url: str, target: str) -> str:
    try:
        found = urljoin(url, target)
        parts = urlsplit(found)
        _ = parts.port
    except ValueError:
        raise RemoteError(f"registry {host_of(url)} redirects to nowhere: {clean(target)[:120]!r}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not found.isprintable():
        raise RemoteError(f"registry {host_of(url)} redirects to {clean(target)[:120]!r}, which is not HTTP")
    return found
