"""How a connection to a host comes about: its address, a proxy on the way, TLS over it.

http            connect
https           connect → TLS
http by proxy   connect to the proxy, which gets whole URLs (RFC 9112 3.2.2)
https by proxy  connect to the proxy → CONNECT (RFC 9110 9.3.6) → TLS; to an https proxy, TLS in its TLS
"""

from __future__ import annotations

import base64
import socket
from urllib.parse import unquote, urlsplit

from knarr.errors import HostError
from knarr.record import Record
from knarr.registry.connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from knarr.registry.connection import Stream

    Adopt = Callable[[socket.socket], None]

_PORTS = {"http": 80, "https": 443}


class NoSuchHost(Exception):
    """A name without an address."""


class Refused(Exception):
    """Nobody took the connection. The system's reason is its cause."""


class NoAnswer(Exception):
    """The connection was not made in time."""


class ProxyTrouble(Exception):
    """The proxy is not there, or does not let us through. Its text or its cause says why."""


class Proxy(Record):
    """`http://user:password@host:port`, taken apart."""

    scheme: str
    host: str
    port: int
    authorization: str  # "" for none


class Route(Record):
    """To one host. `context`: of its TLS; `proxy_context`: of the proxy's own."""

    host: str
    port: int
    context: ssl.SSLContext | None
    proxy: Proxy | None = None
    proxy_context: ssl.SSLContext | None = None

    @property
    def whole_urls(self) -> bool:
        """Is the other end a proxy that wants to be told the URL."""
        return self.proxy is not None and self.context is None


def parse_proxy(url: str) -> Proxy:
    """A proxy's URL. Raises `HostError`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise HostError(
            "the proxy's address makes no sense", hint="check HTTPS_PROXY and HTTP_PROXY"
        ) from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise HostError(f"proxy {parts.scheme}://{parts.hostname}: only http and https proxies can be used")
    login = ""
    if parts.username:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = "Basic " + base64.b64encode(words.encode()).decode()
    return Proxy(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], login)


def place_of(url: str) -> tuple[str, int]:
    """Host and port of a URL, `[::1]` without its brackets. Raises `ValueError`."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("a URL without a host")
    return parts.hostname, parts.port or _PORTS[parts.scheme]


def connect(route: Route, timeout_s: float, read_s: float, adopt: Adopt) -> Connection:
    """A connection that waits `read_s` for each answer. `adopt` is told of its socket as soon as there is one.

    Raises `NoSuchHost`, `Refused`, `NoAnswer`, `ProxyTrouble`, `OSError` (of TLS).
    """
    plain = _to_proxy(route.proxy, timeout_s) if route.proxy else _dial(route.host, route.port, timeout_s)
    adopt(plain)
    stream: Stream = plain
    try:
        if route.proxy is not None and route.proxy_context is not None:
            plain = route.proxy_context.wrap_socket(plain, server_hostname=route.proxy.host)
            adopt(plain)
            stream = plain
        if route.context is not None:
            if route.proxy is not None:
                _tunnel(stream, route)
            if route.proxy_context is not None:
                from knarr.registry.nested_tls import NestedTls

                stream = NestedTls(plain, route.context, _server_name(route.host))
            else:
                plain = route.context.wrap_socket(plain, server_hostname=_server_name(route.host))
                adopt(plain)
                stream = plain
        plain.settimeout(read_s)
    except BaseException:
        plain.close()
        raise
    return Connection(stream)


def _dial(host: str, port: int, timeout_s: float) -> socket.socket:
    try:
        # Bytes: for text, Python imports its whole machinery of international names
        name = host.encode() if host.isascii() else host.encode("idna")
        found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as e:
        raise NoSuchHost from e
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            made = socket.socket(family, kind, protocol)
        except OSError as e:  # a family this machine has not
            failure = failure or e
            continue
        try:
            made.settimeout(timeout_s)
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        except OSError as e:
            made.close()
            failure = e
        except BaseException:
            made.close()
            raise
    if isinstance(failure, TimeoutError):
        raise NoAnswer from failure
    raise Refused from failure


def _to_proxy(proxy: Proxy, timeout_s: float) -> socket.socket:
    try:
        return _dial(proxy.host, proxy.port, timeout_s)
    except NoSuchHost as e:
        raise ProxyTrouble("no such host name, or no name server answers") from e
    except NoAnswer as e:
        raise ProxyTrouble("no answer to the connection in time") from e
    except Refused as e:
        raise ProxyTrouble from e.__cause__


def _tunnel(stream: Stream, route: Route) -> None:
    """Ask the proxy for a way through."""
    place = f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
    fields = {"Host": place}
    if route.proxy is not None and route.proxy.authorization:
        fields["Proxy-Authorization"] = route.proxy.authorization
    status = Connection(stream).tunnel(place, fields)
    if not 200 <= status < 300:
        raise ProxyTrouble(f"it answered {status} when it was asked for a way to {place}")


def _server_name(host: str) -> str:
    return host.rstrip(".")
