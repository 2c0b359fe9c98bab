"""Which proxy a request goes through, by the environment, as Go programs (docker, podman) read it.

`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and their lower-case forms. NO_PROXY is a comma list of `*`, addresses,
networks in CIDR form, names (which match themselves and what is below them), `.names` (only below), each with an
optional port. localhost and loopback addresses never go through a proxy.
"""

from __future__ import annotations

import ipaddress

from knarr.registry.registries import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(scheme: str, host: str, env: Mapping[str, str]) -> str:
    """The proxy's URL, or "" for none. `host` is as in a URL, with or without a port."""
    name, port = split_port(host, "443" if scheme == "https" else "80")
    if is_loopback(host) or _excepted(name, port, _variable(env, "no_proxy")):
        return ""
    found = _variable(env, f"{scheme}_proxy")
    return found if "://" in found or not found else f"http://{found}"


def split_port(host: str, default: str = "") -> tuple[str, str]:
    """`[::1]:5000` → (`::1`, `5000`)."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest[1:] or default
    name, _, port = host.partition(":")
    return name, port or default


def _variable(env: Mapping[str, str], name: str) -> str:
    # A web server puts the request header `Proxy:` into HTTP_PROXY; Go ignores it there, and so do we (httpoxy)
    if name == "http_proxy" and "REQUEST_METHOD" in env:
        return ""
    return env.get(name.upper()) or env.get(name) or ""


def _excepted(name: str, port: str, rules: str) -> bool:
    address = _address(name)
    lower = name.lower().rstrip(".")
    for rule in rules.lower().replace(" ", ",").split(","):
        if rule == "*":
            return True
        if rule and _fits(rule, lower, port, address):
            return True
    return False


def _fits(
    rule: str, name: str, port: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    if _address(rule) is not None:
        return address == _address(rule)
    wanted, wanted_port = split_port(rule)
    if wanted_port and wanted_port != port:
        return False
    if address is not None:
        return _address(wanted) == address
    wanted = wanted.removeprefix("*")
    return name == wanted or name.endswith(wanted if wanted.startswith(".") else "." + wanted)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
