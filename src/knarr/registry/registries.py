"""registries.toml: what the administrator and the user say about registries. `docs/registries.md` describes it.

    search = ["docker.io", "registry.example.com"]
    [aliases]
    debian = "registry.example.com/base/debian"
    [registry."docker.io"]
    mirrors = ["mirror.example.com/hub", "http://10.0.0.5:5000"]
    [registry."registry.example.com/team"]
    ca = "/etc/ssl/private/ca.pem"

A setting is looked up by the longest key that is the registry's host or a prefix of `host/path` at a slash.
"""

from __future__ import annotations

import os

from knarr.errors import DataError, HostError, UsageError
from knarr.host import settings_file
from knarr.oci.reference import DEFAULT_DOMAIN, Reference, has_domain, parse
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

FILE = "registries.toml"
_HUB = "registry-1.docker.io"  # where docker.io really answers


class Settings(Record):
    """One `[registry."KEY"]` table."""

    mirrors: tuple[str, ...] = ()
    mirrors_only: bool = False
    insecure: bool | None = None
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    blocked: bool = False


class Trust(Record):
    """How far a host is believed. `certs.d` directories (`knarr.registry.tls`) add to it."""

    verify: bool = True  # the server's certificate
    plain: bool = False  # may be spoken to over HTTP
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""


class Endpoint(Record):
    """One place that answers the distribution specification for a repository."""

    host: str  # with port: "registry-1.docker.io", "127.0.0.1:5000", "[::1]:5000"
    path: str  # repository as that place calls it: "library/busybox"
    schemes: tuple[str, ...]  # tried in order: ("https",), ("https", "http")
    trust: Trust
    key: str  # under which credentials are kept: "docker.io/library/busybox"
    mirror: bool = False


class Registries(Record):
    """All files merged; the first directory's word wins, table by table."""

    search: tuple[str, ...] = ()
    aliases: Mapping[str, str] = {}
    registries: Mapping[str, Settings] = {}

    def resolve(self, text: str) -> tuple[Reference, ...]:
        """What the words a user typed may mean, in the order to try: an alias, or each search domain, or docker.io."""
        if has_domain(text):
            return (parse(text),)
        plain = parse(text)
        name = plain.path.removeprefix("library/")
        alias = self.aliases.get(name)
        if alias is not None:
            target = parse(alias)
            return (plain._replace(domain=target.domain, path=target.path),)
        found: list[Reference] = []
        for domain in self.search or (DEFAULT_DOMAIN,):
            hub = domain == DEFAULT_DOMAIN
            found.append(plain if hub else plain._replace(domain=domain, path=name))
        return tuple(found)

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Where to ask for a reference: its mirrors in order, then the registry. Raises `UsageError` if blocked."""
        own = self.settings(reference.name)
        if own.blocked:
            raise UsageError(f"registry {reference.domain} is blocked by {FILE}")
        found = [self._mirror(text, reference) for text in own.mirrors]
        if not own.mirrors_only:
            found.append(self._endpoint(reference.domain, reference.path, own, reference.name))
        return tuple(found)

    def registry(self, domain: str) -> Endpoint:
        """A registry itself, for no repository in particular."""
        return self._endpoint(domain, "", self.settings(domain), domain)

    def settings(self, name: str) -> Settings:
        """The table whose key fits `host/path` best."""
        key = name
        while key:
            if key in self.registries:
                return self.registries[key]
            key = key.rpartition("/")[0]
        return Settings()

    def trust(self, host: str) -> Trust:
        """For a host that is not asked about as a registry: where a redirect leads, where tokens are handed out."""
        return _trust(host, self.settings(host))

    def _mirror(self, text: str, reference: Reference) -> Endpoint:
        scheme, host, prefix = split_location(text)
        path = f"{prefix}/{reference.path}" if prefix else reference.path
        endpoint = self._endpoint(host, path, self.settings(f"{host}/{path}"), f"{host}/{path}")._replace(
            mirror=True
        )
        if not scheme:
            return endpoint
        trust = endpoint.trust._replace(plain=scheme == "http")
        return endpoint._replace(schemes=(scheme,), trust=trust)

    def _endpoint(self, domain: str, path: str, own: Settings, key: str) -> Endpoint:
        host = _HUB if domain == DEFAULT_DOMAIN else domain
        trust = _trust(host, own)
        schemes: tuple[str, ...] = ("https",)
        if trust.plain:
            # On loopback nearly every registry is plain, and a probe of the wrong kind costs a round trip
            schemes = ("http", "https") if is_loopback(host) and not own.ca else ("https", "http")
        return Endpoint(host, path, schemes, trust, key)


def _trust(host: str, own: Settings) -> Trust:
    insecure = is_loopback(host) if own.insecure is None else own.insecure
    return Trust(not insecure or bool(own.ca), insecure, own.ca, own.client_cert, own.client_key)


def load(directories: Iterable[str]) -> Registries:
    """Reads `registries.toml` in each directory, the one that wins first. Raises `DataError`, `HostError`."""
    search: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    registries: dict[str, Settings] = {}
    for directory in directories:
        path = os.path.join(directory, FILE)
        try:
            with open(path, "rb") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        except OSError as e:
            raise HostError(f"{path}: {e.strerror}") from e
        one = decode(settings_file.parsed(text, path), path)
        search = search or one.search
        aliases = {**one.aliases, **aliases}
        registries = {**one.registries, **registries}
    return Registries(search, aliases, registries)


def decode(document: Mapping[str, Any], where: str) -> Registries:
    """One file's document, checked key by key. Raises `DataError` with the place of the first fault."""
    settings_file.check_keys(document, ("search", "aliases", "registry"), where)
    search = _strings(document.get("search", []), f"{where}: search")
    aliases = _table(document.get("aliases", {}), f"{where}: aliases")
    for name, target in aliases.items():
        if not isinstance(target, str) or not has_domain(target):
            raise DataError(f"{where}: aliases.{name}: expected a name with its registry, like quay.io/a/b")
        parse(target)
    tables = _table(document.get("registry", {}), f"{where}: registry")
    registries = {
        key.rstrip("/"): _settings(value, f'{where}: registry."{key}"') for key, value in tables.items()
    }
    return Registries(search, aliases, registries)


def split_location(text: str) -> tuple[str, str, str]:
    """(scheme or "", host, path prefix) of a mirror: `[http[s]://]host[:port][/prefix]`."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    host, _, prefix = rest.partition("/")
    return scheme, host, prefix.strip("/")


def is_loopback(host: str) -> bool:
    """localhost, 127.0.0.0/8 and ::1, with or without a port: docker's rule for registries that may be plain."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost") or name == "::1":
        return True
    octets = name.split(".")
    return len(octets) == 4 and octets[0] == "127" and all(o.isdecimal() and int(o) < 256 for o in octets)


def _settings(value: object, where: str) -> Settings:
    table = _table(value, where)
    settings_file.check_keys(table, tuple(f.replace("_", "-") for f in Settings._fields), where)
    mirrors = _strings(table.get("mirrors", []), f"{where}: mirrors")
    for mirror in mirrors:
        scheme, host, _ = split_location(mirror)
        if scheme not in ("", "http", "https") or not host or "@" in host:
            raise DataError(f"{where}: mirrors: {mirror!r} is not [http://]host[:port][/prefix]")
    found = Settings(
        mirrors,
        _boolean(table, "mirrors-only", where) or False,
        _boolean(table, "insecure", where),
        _string(table, "ca", where),
        _string(table, "client-cert", where),
        _string(table, "client-key", where),
        _boolean(table, "blocked", where) or False,
    )
    if found.mirrors_only and not found.mirrors:
        raise DataError(f"{where}: mirrors-only without mirrors")
    return found


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a table")
    return value


def _strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
        raise DataError(f"{where}: expected an array of strings")
    return tuple(value)


def _string(table: Mapping[str, Any], key: str, where: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise DataError(f"{where}: {key}: expected a string")
    return value


def _boolean(table: Mapping[str, Any], key: str, where: str) -> bool | None:
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise DataError(f"{where}: {key}: expected true or false")
    return value
