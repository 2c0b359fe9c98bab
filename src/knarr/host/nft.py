"""nftables: elements of maps added and deleted as nfnetlink bytes, and cheap questions about what is there.

A rule costs a run of `nft` (3–8 ms); an element of a map costs one message (0.1 ms). So rules are loaded once,
by `apply`, and what changes with a container is elements. The batches built here are plain bytes for a plan's
`netlink` step.
See linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from struct import Struct

from knarr.errors import HostError
from knarr.host import netlink
from knarr.host.netlink import attribute, nest, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INET, IPV4, IPV6 = 1, 2, 10  # NFPROTO_*: the family of a table
DROP = 0  # NF_DROP: a chain's policy

_NFGEN = Struct("=BBBB")  # nfgenmsg: family, version, resource id (big endian)
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_DELTABLE, _GETCHAIN, _GETRULE, _DELRULE = 2, 4, 7, 8
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14
_TABLE = 1  # the table's name is attribute 1 of all these messages
_CHAIN_NAME, _CHAIN_POLICY = 3, 5
_RULE_CHAIN, _RULE_HANDLE = 2, 3
_SET_NAME, _SET_ELEMENTS = 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA, _ELEM_USERDATA = 1, 2, 6
_DATA_VALUE = 1
_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT

ELEMENTS_PER_MESSAGE = 500  # an attribute's length has 16 bits


class Element:
    """One element of a map: key and data as the kernel keeps them (each part padded to four bytes), and a comment."""

    __slots__ = ("comment", "data", "key")

    def __init__(self, key: bytes, data: bytes = b"", comment: str = "") -> None:
        self.key, self.data, self.comment = key, data, comment

    def __repr__(self) -> str:
        return f"Element({self.key.hex()}, {self.data.hex()}, {self.comment!r})"


def add_elements(table: str, elements: Sequence[tuple[str, Element]]) -> bytes:
    """A batch that adds (map name, element) pairs to `table inet TABLE`, all or none.

    The kernel answers EEXIST for a key that is there with other data, and takes one with the same data as added.
    """
    flags = netlink.ACK | netlink.CREATE
    return _batch(*(_element_message(_NEWSETELEM, flags, table, *group) for group in _grouped(elements)))


def delete_elements(table: str, elements: Sequence[tuple[str, Element]]) -> bytes:
    """A batch that deletes them by key, all or none: ENOENT when one is absent."""
    keys = [(name, Element(element.key)) for name, element in elements]
    return _batch(*(_element_message(_DELSETELEM, netlink.ACK, table, *group) for group in _grouped(keys)))


def delete_table(table: str) -> bytes:
    """A batch that deletes `table inet TABLE` with all that is in it."""
    return _batch(_message(_DELTABLE, netlink.ACK, INET, attribute(_TABLE, text(table))))


def _grouped(elements: Sequence[tuple[str, Element]]) -> Iterator[tuple[str, list[Element]]]:
    by_map: dict[str, list[Element]] = {}
    for name, element in elements:
        by_map.setdefault(name, []).append(element)
    for name, members in by_map.items():
        for at in range(0, len(members), ELEMENTS_PER_MESSAGE):
            yield name, members[at : at + ELEMENTS_PER_MESSAGE]


def _batch(*inner: bytes) -> bytes:
    limit = _NFGEN.pack(0, 0, 0, _SUBSYSTEM)
    begin, end = (netlink.message(kind, 0, limit) for kind in (_BATCH_BEGIN, _BATCH_END))
    return b"".join((begin, *inner, end))


def _element_message(kind: int, flags: int, table: str, name: str, elements: Sequence[Element]) -> bytes:
    listed = (nest(_LIST_ELEM, *_element_attributes(element)) for element in elements)
    head = attribute(_TABLE, text(table)) + attribute(_SET_NAME, text(name))
    return _message(kind, flags, INET, head, nest(_SET_ELEMENTS, *listed))


def _element_attributes(element: Element) -> Iterator[bytes]:
    yield nest(_ELEM_KEY, attribute(_DATA_VALUE, element.key))
    if element.data:
        yield nest(_ELEM_DATA, attribute(_DATA_VALUE, element.data))
    if element.comment:
        note = text(element.comment)
        yield attribute(_ELEM_USERDATA, bytes((_COMMENT, len(note))) + note)


def _message(kind: int, flags: int, family: int, *body: bytes) -> bytes:
    return netlink.message(_SUBSYSTEM << 8 | kind, flags, _NFGEN.pack(family, 0, 0, 0), *body)


# -- questions --------------------------------------------------------------------------------------------------


def has_rule(door: netlink.Door, family: int, table: str, chain: str, mark: bytes) -> bool:
    """Whether a rule of that chain has these bytes in it (a comment, an interface name); no such chain is a no."""
    return bool(_rules(door, family, table, chain, mark))


def delete_rules(door: netlink.Door, family: int, table: str, chain: str, mark: bytes) -> None:
    """Deletes the rules of a chain that have these bytes in them."""
    where = attribute(_TABLE, text(table)) + attribute(_RULE_CHAIN, text(chain))
    for rule in _rules(door, family, table, chain, mark):
        handle = attribute(_RULE_HANDLE, netlink.attributes(rule, _NFGEN.size)[_RULE_HANDLE])
        door.send(_batch(_message(_DELRULE, netlink.ACK, family, where, handle)))


def _rules(door: netlink.Door, family: int, table: str, chain: str, mark: bytes) -> list[bytes]:
    where = attribute(_TABLE, text(table)) + attribute(_RULE_CHAIN, text(chain))
    try:
        found = list(door.dump(_message(_GETRULE, netlink.DUMP, family, where)))
    except FileNotFoundError:
        return []
    return [rule for _, rule in found if mark in rule]


def chain_policy(door: netlink.Door, family: int, table: str, chain: str) -> int | None:
    """`DROP` or another verdict for a base chain; None when there is no such chain."""
    body = attribute(_TABLE, text(table)) + attribute(_CHAIN_NAME, text(chain))
    try:
        found = netlink.attributes(door.ask(_message(_GETCHAIN, 0, family, body)), _NFGEN.size)
    except FileNotFoundError:
        return None
    policy = found.get(_CHAIN_POLICY)
    return int.from_bytes(policy, "big") if policy else None


def find_element(door: netlink.Door, table: str, name: str, key: bytes) -> Element | None:
    """The element with that key, or None."""
    request = _element_message(_GETSETELEM, 0, table, name, [Element(key)])
    try:
        return next(_elements_of(door.ask(request)), None)
    except FileNotFoundError:
        return None


def elements(door: netlink.Door, table: str, name: str) -> list[Element]:
    """All elements of a map; none when the map is not there."""
    head = attribute(_TABLE, text(table)) + attribute(_SET_NAME, text(name))
    request = _message(_GETSETELEM, netlink.DUMP, INET, head)
    try:
        return [element for _, body in door.dump(request) for element in _elements_of(body)]
    except FileNotFoundError:
        return []


def _elements_of(body: bytes) -> Iterator[Element]:
    listed = netlink.attributes(body, _NFGEN.size).get(_SET_ELEMENTS, b"")
    for _, item in netlink.attribute_list(listed):
        found = netlink.attributes(item)
        key, data = (
            netlink.attributes(found.get(kind, b"")).get(_DATA_VALUE, b"") for kind in (_ELEM_KEY, _ELEM_DATA)
        )
        yield Element(key, data, _comment(found.get(_ELEM_USERDATA, b"")))


def _comment(userdata: bytes) -> str:
    """The comment among an element's user data: a list of type byte, length byte, value."""
    at = 0
    while at + 2 <= len(userdata):
        kind, size = userdata[at], userdata[at + 1]
        if kind == _COMMENT:
            return userdata[at + 2 : at + 2 + size].rstrip(b"\0").decode("utf-8", "replace")
        at += 2 + size
    return ""


# -- the slow door ----------------------------------------------------------------------------------------------


def apply(program: str, ruleset: str) -> None:
    """Loads a ruleset as one transaction through the `nft` program. Off the hot path: takes milliseconds."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "-f", "-"], input=ruleset, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as e:
        raise HostError(f"nftables: {program}: not found", hint="apt install nftables") from e
    except OSError as e:
        raise HostError(f"nftables: {program}: {e.strerror}") from e
    if done.returncode:
        first = done.stderr.strip().splitlines()[:1] or [f"exit status {done.returncode}"]
        raise HostError(f"nftables: the ruleset was refused: {first[0]}", hint="knarr doctor")
