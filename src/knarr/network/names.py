"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container, as docker makes them. Text in, text out."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.network.address import canonical, is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESOLV_CONF = "/etc/resolv.conf"
# Where systemd-resolved keeps the servers that its stub on 127.0.0.53 asks.
RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"
# Docker's answer where the host knows only resolvers on its own loopback, which a container cannot reach.
FALLBACK = ("8.8.8.8", "8.8.4.4")

_LOCALHOST = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(hostname: str, addresses: Sequence[str], extra: Sequence[tuple[str, str]] = ()) -> str:
    """`addresses` are the container's own; `extra` are (name, address)."""
    short, dot, _ = hostname.partition(".")
    own = f"{hostname} {short}" if dot else hostname
    lines = [f"{address}\t{name}\n" for name, address in extra]
    lines += [f"{address}\t{own}\n" for address in addresses if address and hostname]
    return _LOCALHOST + "".join(lines)


def host_hosts(extra: Sequence[tuple[str, str]], path: str = "/etc/hosts") -> str:
    """With the host's network a container has the host's names, and what was added."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError:
        text = _LOCALHOST
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{address}\t{name}\n" for name, address in extra)


def parse_add_host(text: str, host_gateway: str) -> tuple[str, str]:
    """`NAME:ADDRESS` or `NAME=ADDRESS` as (name, address); the address `host-gateway` is `host_gateway`."""
    at = min((at for at in (text.find(":"), text.find("=")) if at >= 0), default=-1)
    name, ip = (text[:at], text[at + 1 :]) if at > 0 else ("", "")
    if not name or any(c.isspace() for c in name):
        raise UsageError(f"--add-host {text}: not of the form name:address")
    if ip == "host-gateway":
        if not host_gateway:
            raise UsageError(f"--add-host {text}: this network has no way to the host")
        return name, host_gateway
    ip = ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip
    try:
        return name, canonical(ip)
    except UsageError as e:
        raise UsageError(f"--add-host {text}: invalid ip address {ip!r}") from e


def resolv_conf(
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    *,
    own_server: str = "",
    loopback: bool = False,
    ipv6: bool = True,
    path: str = RESOLV_CONF,
    resolved: str = RESOLVED_CONF,
) -> str:
    """What is given stands in place of the host's; `--dns-search .` empties the search list.

    `own_server`: the network's own resolver (user-mode networking), in place of the host's servers. `loopback`:
    resolvers on the host's loopback can be reached (the host's network). `ipv6`: so can IPv6 ones.
    """
    host = _read(path)
    if not loopback and _only_stub(host):
        host = _read(resolved) or host
    if not servers:
        servers = (own_server,) if own_server else [s for s in _values(host, "nameserver") if s]
        servers = [s for s in servers if loopback or _reachable(s, ipv6)] or FALLBACK
    search = search or _values(host, "search") or _values(host, "domain")
    options = options or _values(host, "options")
    lines = [f"nameserver {_checked(server)}" for server in servers]
    if search and tuple(search) != (".",):
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "".join(line + "\n" for line in lines)


def _only_stub(text: str) -> bool:
    return set(_values(text, "nameserver")) <= {"127.0.0.53", "127.0.0.54"} and "nameserver" in text


def _reachable(server: str, ipv6: bool) -> bool:
    """From another network namespace: not loopback, not bound to one of the host's interfaces."""
    if not is_address(server):  # with a zone: fe80::1%eth0
        return False
    number = canonical(server)
    return not number.startswith("127.") and number != "::1" and (ipv6 or ":" not in number)


def _checked(server: str) -> str:
    if "%" in server:
        return server
    try:
        return canonical(server)
    except UsageError as e:
        raise UsageError(f"--dns {server}: invalid ip address") from e


def _values(text: str, key: str) -> list[str]:
    """The words after `key`: of every line for `nameserver`, of the last one for the others (resolv.conf(5))."""
    lines = [line.split() for line in text.splitlines() if line[:1] not in "#;"]
    found = [words[1:] for words in lines if len(words) > 1 and words[0] == key]
    if key == "nameserver":
        return [words[0] for words in found]
    return found[-1] if found else []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def checked_words(values: Iterable[str], flag: str) -> None:
    """Raises UsageError for a value that would become another line of the file."""
    for value in values:
        if not value or any(c.isspace() for c in value):
            raise UsageError(f"{flag} {value!r}: must be one word")
