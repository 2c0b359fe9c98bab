"""Login and logout: a registry's word on a user and password, and where they are kept. Off the start-up path."""

from __future__ import annotations

import os

from knarr.errors import UsageError
from knarr.oci.reference import DEFAULT_DOMAIN, parse
from knarr.registry import credentials
from knarr.registry.client import Client
from knarr.registry.registries import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def login(
    server: str,
    username: str,
    password: str,
    *,
    config: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
) -> str:
    """Asks the registry and keeps the credential; where it is kept. Raises `RemoteError` when it is refused."""
    domain = domain_of(server)
    given = credentials.Credential(username, password)
    with Client(load(config), credentials.Given(given), env, config) as client:
        client.check(domain)
    return credentials.store(env, domain, given)


def logout(server: str, *, env: Mapping[str, str] = os.environ) -> bool:
    """Forgets a registry's credential; whether there was one."""
    return credentials.erase(env, domain_of(server))


def domain_of(server: str) -> str:
    """The registry of what a user typed: `quay.io`, `https://quay.io/v2/`, nothing for docker.io."""
    if not server:
        return DEFAULT_DOMAIN
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in ("index.docker.io", "registry-1.docker.io"):
        return DEFAULT_DOMAIN
    if parse(f"{host}/x").domain != host:
        raise UsageError(
            f"{server!r} is not the address of a registry", hint="for example `knarr login quay.io`"
        )
    return host
