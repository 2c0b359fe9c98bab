"""Ids and names of containers: drawing them, checking them."""

from __future__ import annotations

import os

from knarr.errors import UsageError

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_HOW = (
    "able amber apt bold brave bright brisk calm candid clear deft eager early even fair fleet fresh gentle glad "
    "good hale handy hardy honest humble jolly keen kind late lively loyal lucky mellow merry mild neat nimble noble "
    "patient plain proud quick quiet ready rich ripe salty sharp shy silver sleek snug sober solid sound spry "
    "staunch steady still stout sturdy sunny swift tidy trim true upright vivid warm wary wild wise witty young"
).split()
_WHO = (
    "anchor auk barge beacon berth bow brig buoy cable capstan cargo cleat coble cod cog compass cove crest current "
    "dinghy drakkar eider faering fjord foam gale galley gannet gull halyard harbour haven helm herring holm hull "
    "island jetty jib keel ketch knot lantern ling longship lugger mast moor narwhal oar orca osprey otter petrel "
    "pier pilot porpoise prow puffin quay reef rigging rudder sail schooner seal shanty shoal skerry skiff sloop "
    "snekke spar squall stem stern strait tern thwart tide tiller wake walrus wharf whale yawl"
).split()


def new_id() -> str:
    """64 hexadecimal digits. Never all decimal at its beginning: such a host name would be taken for a number."""
    while True:
        text = os.urandom(32).hex()
        if not text[:12].isdecimal():
            return text


def draw_name(attempt: int) -> str:
    """Two words, and from the second attempt on a number."""
    a, b, c = os.urandom(3)
    name = f"{_HOW[a % len(_HOW)]}_{_WHO[b % len(_WHO)]}"
    return f"{name}{c}" if attempt else name


def checked_name(name: str) -> str:
    """The name as asked, without docker's leading slash. Raises `UsageError`."""
    plain = name.removeprefix("/")
    if len(plain) < 2 or len(plain) > 200 or not _ALLOWED.issuperset(plain) or not plain[0].isalnum():
        raise UsageError(
            f"invalid container name {name!r}",
            hint="two or more letters, digits, _ . or -, the first a letter or a digit",
        )
    return plain
