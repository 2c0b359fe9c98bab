"""One HTTP exchange with a registry: connection pools, TLS, proxies, redirects, and urllib3's errors as ours.

Redirects are followed here and not by urllib3, because of what must not follow them: `Authorization` stays with
the host it was meant for, and a redirect never leads from HTTPS to HTTP.
"""

from __future__ import annotations

import socket
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit
from weakref import WeakSet

import urllib3
from urllib3 import exceptions as trouble
from urllib3.connection import HTTPConnection, HTTPSConnection

from knarr import __version__
from knarr.errors import DataError, HostError, RemoteError
from knarr.record import Record
from knarr.registry import proxies, tls
from knarr.registry.failures import Cancelled, Transient, Unreachable, clean
from knarr.registry.translation import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3.response import BaseHTTPResponse

    from knarr.registry.registries import Trust

REDIRECTS_MAX = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SPEED_MIN = 512  # bytes per second; slower than that for a whole read timeout is a stall
_ERROR_BODY_MAX = 64 * 1024


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
        self._pools: dict[tuple[str, str, Trust], urllib3.PoolManager] = {}
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._connections = _connections(self._adopt)
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
            response = self._exchange(method, url, given, trust, body)
            target = response.headers.get("Location")
            if not follow or response.status not in _REDIRECTS or not target:
                return Answer(self, response, host_of(url))
            drain(response)
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
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.clear()

    def has_answered(self, host: str) -> bool:
        """Whether `host` has ever answered: then a refused connection is worth another attempt."""
        return host in self._answered

    def translate(self, error: Exception, host: str) -> Exception:
        """The seam: what urllib3 or the socket raised, as an error of ours."""
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

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], trust: Trust, body: bytes | None
    ) -> BaseHTTPResponse:
        if self.cancelled.is_set():
            raise Cancelled
        host = host_of(url)
        base = {"User-Agent": f"knarr/{__version__}", "Accept-Encoding": "identity"}
        try:
            response = self._pool(url, trust).request(
                method, url, body=body, headers={**base, **headers}, redirect=False, retries=False,
                preload_content=False, decode_content=False,
                timeout=urllib3.Timeout(connect=self.limits.connect_s, read=self.limits.read_s),
            )  # fmt: skip
        except (trouble.HTTPError, OSError, ValueError) as e:
            raise self.translate(e, host) from e
        self._answered.add(host)
        return response

    def _pool(self, url: str, trust: Trust) -> urllib3.PoolManager:
        host, scheme = host_of(url), scheme_of(url)
        key = (scheme, host, trust)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._new_pool(scheme, host, trust)
        return pool

    def _new_pool(self, scheme: str, host: str, trust: Trust) -> urllib3.PoolManager:
        context = tls.context(host, trust, self._certificates) if scheme == "https" else None
        if not trust.verify:
            urllib3.disable_warnings(trouble.InsecureRequestWarning)  # the administrator said so
        proxy = proxies.proxy_for(scheme, host, self._env)
        if not proxy:
            made = urllib3.PoolManager(num_pools=2, maxsize=8, ssl_context=context)
            made.pool_classes_by_scheme = self._connections
            return made
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise HostError(
                f"proxy {parts.scheme}://{parts.hostname}: only http and https proxies can be used"
            )
        login = {}
        if parts.username:
            login = urllib3.make_headers(
                proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            )
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        made = urllib3.ProxyManager(address, maxsize=8, ssl_context=context, proxy_headers=login)
        made.pool_classes_by_scheme = self._connections
        return made


class Answer:
    """A response whose body has not been read. Close it, or read it to its end."""

    def __init__(self, transport: Transport, response: BaseHTTPResponse, host: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self.host = host  # who answered in the end
        self._transport = transport
        self._response = response
        self._came = 0
        self._waited_s = 0.0
        self._said: bytes | None = None

    def read1(self, size: int) -> bytes:
        """Up to `size` bytes as they come; `b""` at the end. Raises as `Transport.open`, and `Transient` on a stall."""
        asked = time.monotonic()
        try:
            chunk = self._response.read1(size, decode_content=False)
        except (trouble.HTTPError, OSError, ValueError) as e:
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
        found: str = self.headers.get("Content-Encoding", "")
        return "" if found.lower() == "identity" else found

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After (RFC 9110 10.2.3): seconds, or a date."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdecimal() and len(text) < 10:
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time()) if text else None
        except (ValueError, OverflowError):
            return None

    def release(self) -> None:
        """Gives the connection back for the next request; only after the body was read."""
        self._response.release_conn()

    def close(self) -> None:
        self._response.close()


def _connections(adopt: Callable[[socket.socket], None]) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """urllib3's pools, whose connections tell `adopt` their sockets: a thread that waits for an answer can be woken."""

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            if self.sock is not None:
                adopt(self.sock)

    class Secure(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            if self.sock is not None:
                adopt(self.sock)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _shut(connected: socket.socket) -> None:
    try:
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not TLS's own: its reader is in another thread
    except OSError:
        pass  # it ended by itself in this moment


def drain(response: BaseHTTPResponse) -> None:
    """Reads a short body so that the connection can be used again; a long one costs the connection instead."""
    try:
        if len(response.read(16 * 1024, decode_content=False)) < 16 * 1024:
            response.release_conn()
            return
    except (trouble.HTTPError, OSError, ValueError):
        pass
    response.close()


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
