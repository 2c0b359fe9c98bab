"""Published ports: docker's `-p` forms read, host ports chosen and reserved.

A host port is reserved by binding it: two containers, or a container and any other program, cannot both
have it, and the kernel is the judge. The sockets are bound and do not listen (the traffic is redirected before it
would reach them); whoever holds them (the monitor) holds the ports. What is not redirected is refused, as on a
closed port; only what comes from ::1 is taken there (see `from_loopback6`).
"""

from __future__ import annotations

import _socket
import errno
import time

from knarr.errors import Conflict, HostError, KnarrError, UsageError
from knarr.network.address import canonical
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PATIENCE_S, _RETRY_S = 0.3, 0.005
PROTOCOLS = ("tcp", "udp", "sctp")
_SOCKETS = {
    "tcp": (_socket.SOCK_STREAM, 0),
    "udp": (_socket.SOCK_DGRAM, 0),
    "sctp": (_socket.SOCK_STREAM, 132),
}


class PortRequest(Record):
    """One container port to publish. Host port: one of `host_first`–`host_last`; both 0 is any free one.

    `host_ip` is empty for every address of the host, IPv4 and IPv6.
    """

    host_ip: str
    host_first: int
    host_last: int
    container_port: int
    protocol: str


class Published(Record):
    """A port as it is published; `host_ip` is `0.0.0.0`, `::`, or one address."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return f"{host}:{self.host_port}->{self.container_port}/{self.protocol}"


# -- reading ----------------------------------------------------------------------------------------------------


def parse_port(text: str) -> list[PortRequest]:
    """`[[ip:][hostPort]:]containerPort[/proto]`, ports also as ranges `8000-8010`, an IPv6 address in brackets.

    As docker: ranges of the same length are matched one to one; a range of host ports for one container port means
    the first free one of them. Raises UsageError naming the flag.
    """

    def wrong(why: str) -> UsageError:
        return UsageError(f"-p {text}: {why}", hint="write it like 8080:80, 127.0.0.1:8080:80 or 53:53/udp")

    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise wrong(f"invalid protocol {protocol!r}")
    rest, _, container = rest.rpartition(":")
    ip, _, host = rest.rpartition(":") if not rest.endswith("]") else (rest, "", "")
    ip = _host_ip(ip, wrong)
    if not container:
        raise wrong("no container port")
    first, last = _range(container, "container", wrong)
    if host in ("", "0"):
        return [PortRequest(ip, 0, 0, port, protocol) for port in range(first, last + 1)]
    host_first, host_last = _range(host, "host", wrong)
    if first == last:
        return [PortRequest(ip, host_first, host_last, first, protocol)]
    if last - first != host_last - host_first:
        raise wrong("the ranges of host and container ports differ in length")
    return [
        PortRequest(ip, port, port, first + n, protocol)
        for n, port in enumerate(range(host_first, host_last + 1))
    ]


def parse_ports(texts: Iterable[str]) -> list[PortRequest]:
    return [request for text in texts for request in parse_port(text)]


def parse_exposed(text: str) -> list[tuple[int, str]]:
    """(port, protocol) of an exposed port, `80/tcp` or `8000-8010`: `--expose`, and an image's ExposedPorts."""

    def wrong(why: str) -> UsageError:
        return UsageError(f"exposed port {text}: {why}", hint="write it like 80, 53/udp or 8000-8010")

    ports, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise wrong(f"invalid protocol {protocol!r}")
    first, last = _range(ports, "container", wrong)
    return [(port, protocol) for port in range(first, last + 1)]


def publish_all(exposed: Iterable[str], requests: Sequence[PortRequest]) -> list[PortRequest]:
    """`-P`: every exposed port that is not published yet gets a free host port."""
    given = {(request.container_port, request.protocol) for request in requests}
    wanted = {port for text in exposed for port in parse_exposed(text)}
    return [PortRequest("", 0, 0, port, protocol) for port, protocol in sorted(wanted - given)]


def _host_ip(text: str, wrong: Wrong) -> str:
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    elif ":" in text:
        raise wrong("an IPv6 address needs brackets")
    if not text:
        return ""
    try:
        return canonical(text)
    except UsageError as e:
        raise wrong(f"invalid ip address {text!r}") from e


def _range(text: str, which: str, wrong: Wrong) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    numbers = [_port(part) for part in ((low, high) if dash else (low, low))]
    if not all(numbers) or numbers[0] > numbers[1]:
        raise wrong(f"invalid {which} port {text!r}")
    return numbers[0], numbers[1]


def _port(text: str) -> int:
    """0 for what is not a port."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    return number if number < 65536 else 0


# -- reserving --------------------------------------------------------------------------------------------------


def reserve(requests: Sequence[PortRequest], ipv6: bool) -> tuple[list[Published], list[_socket.socket]]:
    """Chooses and binds the host port of each request.

    `ipv6`: whether the every-address form is published on `::` too. The sockets close on exec; who wants the ports
    to stay reserved keeps them. Raises Conflict (`port is already allocated`) or HostError, with nothing left bound.
    """
    published: list[Published] = []
    sockets: list[_socket.socket] = []
    if len(requests) > 256:
        _raise_descriptor_limit(len(requests))
    try:
        for request in requests:
            bound = _reserve_one(request, ipv6)
            sockets.append(bound)
            port = bound.getsockname()[1]
            addresses = [request.host_ip] if request.host_ip else ["0.0.0.0"]
            if not request.host_ip and bound.family == _socket.AF_INET6:
                addresses.append("::")
            published += (Published(ip, port, request.container_port, request.protocol) for ip in addresses)
    except BaseException:
        for bound in sockets:
            bound.close()
        raise
    return published, sockets


def from_loopback6(bound: _socket.socket, request: PortRequest) -> bool:
    """Would a connection to [::1] come to that port: the kernel cannot redirect it, so the monitor relays it."""
    return (
        bound.family == _socket.AF_INET6
        and request.protocol == "tcp"
        and request.host_ip in ("", "::", "::1")
    )


def reserve_loopback6(port: int) -> _socket.socket | None:
    """[::1]:PORT for a port that is published by IPv4; None on a host without IPv6, or where it is somebody else's."""
    try:
        return _bound(_socket.AF_INET6, "tcp", "::1", port)
    except OSError:
        return None


def _reserve_one(request: PortRequest, ipv6: bool) -> _socket.socket:
    """A port that is taken is asked for again for a moment: on a restart the last holder may just be ending."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        last_error: OSError | None = None
        for port in range(request.host_first, request.host_last + 1):
            try:
                return _bind(request, port, ipv6)
            except OSError as e:
                last_error = e
                if e.errno != errno.EADDRINUSE:
                    break
        if last_error is None or last_error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
            raise _refused(request, last_error) from last_error
        time.sleep(_RETRY_S)


def _bind(request: PortRequest, port: int, ipv6: bool) -> _socket.socket:
    """One socket has both families: bound to `::` it also takes `0.0.0.0`."""
    ip = request.host_ip
    if not ip and ipv6:
        try:
            return _bound(_socket.AF_INET6, request.protocol, "::", port, both=True)
        except OSError as e:
            if e.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    family = _socket.AF_INET6 if ":" in ip else _socket.AF_INET
    return _bound(family, request.protocol, ip or "0.0.0.0", port)


def _bound(family: int, protocol: str, ip: str, port: int, both: bool = False) -> _socket.socket:
    """Without SO_REUSEADDR, so that a second reservation is refused although neither listens. That also refuses a
    port on which only the last minute's connections of an ended server linger; it is then asked for in the way a
    server would."""
    try:
        return _bound_once(family, protocol, ip, port, both, reuse=False)
    except OSError as e:
        if e.errno != errno.EADDRINUSE or protocol != "tcp":
            raise
    return _bound_once(family, protocol, ip, port, both, reuse=True)


def _bound_once(family: int, protocol: str, ip: str, port: int, both: bool, reuse: bool) -> _socket.socket:
    kind, number = _SOCKETS[protocol]
    bound = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, number)
    try:
        if family == _socket.AF_INET6:
            bound.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0 if both else 1)
        if reuse:
            bound.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        bound.bind((ip, port))
        if reuse:  # refused if anybody else listens or reserves; then as exclusive as the others
            bound.listen(0)
            bound.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 0)
            bound.shutdown(_socket.SHUT_RD)
    except BaseException:
        bound.close()
        raise
    return bound


def _refused(request: PortRequest, error: OSError | None) -> KnarrError:
    ports = _shown_range(request)
    where = f"bind for {_shown_ip(request.host_ip)}:{ports} failed"
    code = error.errno if error else 0
    if code == errno.EADDRINUSE:
        several = request.host_last != request.host_first
        what = "all ports are already allocated" if several else "port is already allocated"
        return Conflict(
            f"{where}: {what}", hint=f"find who has it: ss -lntup 'sport = :{request.host_first}'"
        )
    if code == errno.EACCES:
        return HostError(
            f"{where}: ports below {_unprivileged_start()} need root",
            hint=f"sysctl -w net.ipv4.ip_unprivileged_port_start={request.host_first}, or a higher host port",
        )
    if code == errno.EADDRNOTAVAIL:
        return UsageError(f"{where}: this host does not have that address", hint="ip address")
    return HostError(f"{where}: {error.strerror if error else 'no port'}")


def _shown_range(request: PortRequest) -> str:
    one = request.host_first == request.host_last
    return str(request.host_first) if one else f"{request.host_first}-{request.host_last}"


def _shown_ip(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip or "0.0.0.0"


def _unprivileged_start() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def _raise_descriptor_limit(ports: int) -> None:
    """A range of ports is as many descriptors, here and in the monitor that inherits the limit."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ports + 256
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# -- remembering ------------------------------------------------------------------------------------------------


def to_text(published: Iterable[Published]) -> str:
    """A line per port, fields separated by blanks: what `from_text` reads."""
    return "".join(f"{p.protocol} {p.host_ip} {p.host_port} {p.container_port}\n" for p in published)


def from_text(text: str) -> Iterator[Published]:
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2].isdecimal() and fields[3].isdecimal():
            yield Published(fields[1], int(fields[2]), int(fields[3]), fields[0])


if TYPE_CHECKING:
    from collections.abc import Callable

    Wrong = Callable[[str], UsageError]
