"""network.toml: what the administrator says about the default bridge. `docs/network.md` describes it.

    subnet = "10.99.0.0/16"
    subnet6 = "fd00:99::/64"      # "" for none

Read when the network is made, never by a start that finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from knarr.errors import DataError, UsageError
from knarr.host import settings_file
from knarr.network.address import Subnet, subnet
from knarr.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE = "network.toml"
_WIDEST, _NARROWEST = 8, 30
_NOT_OURS = tuple(map(subnet, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/8", "ff00::/8")))


class Settings(Record):
    """`None`: nothing was said."""

    subnet: Subnet | None = None
    subnet6: Subnet | None = None
    ipv6: bool = True
    where: str = ""  # the file


def read(directories: Iterable[str]) -> Settings:
    """The first file there is. Raises `DataError`, `HostError`."""
    for directory in directories:
        path = f"{directory}/{FILE}"
        document = settings_file.load(path)
        if document is not None:
            return decode(document, path)
    return Settings()


def decode(document: Mapping[str, Any], where: str) -> Settings:
    """One file's document, checked key by key. Pure. Raises `DataError` with the place of the first fault."""
    settings_file.check_keys(document, ("subnet", "subnet6"), where)
    v4, v6 = _subnet(document, "subnet", 32, where), _subnet(document, "subnet6", 128, where)
    if v4 and not _WIDEST <= v4.prefix <= _NARROWEST:
        raise DataError(f"{where}: subnet: {v4} is not between /{_WIDEST} and /{_NARROWEST}")
    if v6 and v6.size < (v4.size if v4 else 1 << 16):
        raise DataError(f"{where}: subnet6: {v6} has fewer addresses than the IPv4 subnet; a /64 is usual")
    return Settings(v4, v6, document.get("subnet6") != "", where)


def _subnet(document: Mapping[str, Any], key: str, bits: int, where: str) -> Subnet | None:
    text = document.get(key)
    if text is None or (text == "" and key == "subnet6"):
        return None
    example = "10.99.0.0/16" if bits == 32 else "fd00:99::/64"
    try:
        found = subnet(text) if isinstance(text, str) else None
    except UsageError:
        found = None
    if found is None or found.bits != bits:
        raise DataError(f"{where}: {key}: {text!r} is not a subnet like {example!r}")
    if any(found.overlaps(other) for other in _NOT_OURS):
        raise DataError(f"{where}: {key}: {found} is not for hosts")
    return found
