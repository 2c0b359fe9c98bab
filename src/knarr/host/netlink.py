"""rtnetlink: the messages that make links, addresses and routes, as bytes, and a socket to send them on.

The builders are pure, so a plan can carry what they build (`netlink` in docs/plan.md) and a test can compare it.
`Door` sends bytes itself, for what happens outside a plan: making the bridge, asking what is there.
Addresses are text (`10.0.0.2`, `fd00::2`), the family is seen from them. See rtnetlink(7) and linux/if_link.h.
"""

from __future__ import annotations

import _socket
import os
from struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE, NETFILTER = 0, 12  # netlink families

REQUEST, ACK, DUMP, CREATE, EXCL = 0x1, 0x4, 0x300, 0x400, 0x200
NOOP, ERROR, DONE = 1, 2, 3
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, GETADDR, NEWROUTE, GETROUTE = 20, 22, 24, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_PID = 1, 3, 4, 10, 18, 19
IFLA_PROTINFO, IFLA_BRPORT_MODE = 12, 4
INFO_KIND, INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 4, 5, 15
IFF_UP = 1
IFA_F_NODAD = 0x02
NESTED = 0x8000
TYPE_MASK = 0x3FFF

LOOPBACK = 1  # the index of `lo` in every network namespace

_HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTR = Struct("=HH")
_IFINFO = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = Struct("=BBBBI")  # ifaddrmsg: family, prefix, flags, scope, index
_RTMSG = Struct("=BBBBBBBBI")  # rtmsg: family, dst, src, tos, table, protocol, scope, type, flags
_U32 = Struct("=I")
_INT = Struct("=i")

_AF_BRIDGE = 7
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ERROR_MESSAGE = 1  # NLMSGERR_ATTR_MSG
_ACK_HAS_ATTRIBUTES, _ACK_IS_CAPPED = 0x200, 0x100


# -- building ---------------------------------------------------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes; the padding is not in its length."""
    size = len(payload) + 4
    return _ATTR.pack(size, kind) + payload + b"\0" * (-size & 3)


def nest(kind: int, *inner: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(inner))


def message(kind: int, flags: int, *body: bytes) -> bytes:
    """One message. Sequence and port are 0: acknowledgements are counted, not matched."""
    payload = b"".join(body)
    return _HEADER.pack(len(payload) + 16, kind, flags | REQUEST, 0, 0) + payload


def text(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape") + b"\0"


def u32(value: int) -> bytes:
    return _U32.pack(value)


def pack_address(address: str) -> bytes:
    """4 or 16 bytes. Raises OSError for text that is not an address."""
    return _socket.inet_pton(_family(address), address)


def unpack_address(data: bytes) -> str:
    return _socket.inet_ntop(_socket.AF_INET if len(data) == 4 else _socket.AF_INET6, data)


def pack_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def link_up(index: int = 0, name: str = "") -> bytes:
    """Brings a link up, by index or (index 0) by name."""
    name_attr = attribute(IFLA_IFNAME, text(name)) if name else b""
    return message(SETLINK, ACK, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP), name_attr)


def link_delete(name: str) -> bytes:
    """Synchronous, 20 ms for a veth: a pair is left to the death of its namespace instead."""
    return message(DELLINK, ACK, _IFINFO.pack(0, 0, 0, 0, 0), attribute(IFLA_IFNAME, text(name)))


def link_master(index: int, master: int) -> bytes:
    return message(SETLINK, ACK, _IFINFO.pack(0, 0, index, 0, 0), attribute(IFLA_MASTER, u32(master)))


def bridge_hairpin(index: int) -> bytes:
    """Lets a bridge send a frame back through the port it came from: a container that calls its own published
    port, where br_netfilter translates the address before the frame has left the bridge."""
    head = _IFINFO.pack(_AF_BRIDGE, 0, index, 0, 0)
    return message(SETLINK, ACK, head, nest(IFLA_PROTINFO, attribute(IFLA_BRPORT_MODE, b"\1")))


def bridge(name: str, mac: str, mtu: int) -> bytes:
    """A new bridge, up. Its MAC is fixed: left alone it would follow its ports, and the containers' neighbour
    entries for their gateway would go stale whenever one of them ends."""
    return message(
        NEWLINK,
        ACK | CREATE | EXCL,
        _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP),
        attribute(IFLA_IFNAME, text(name)),
        attribute(IFLA_ADDRESS, pack_mac(mac)),
        attribute(IFLA_MTU, u32(mtu)),
        nest(IFLA_LINKINFO, attribute(INFO_KIND, text("bridge"))),
    )


def veth(
    name: str, index: int, master: int, mtu: int, peer: str, peer_index: int, peer_mac: str, pid: int = 0
) -> tuple[bytes, int]:
    """A pair: this end up and in the bridge `master` (0: in none), the other end in the namespace of `pid`, down.

    Returns the message and the offset of the pid in it. The other end gets the index asked for only when this
    end's is asked for too (veth_newlink), and it has to be known: who sends the address into the namespace
    cannot look it up.
    """
    # Not up: veth_open refuses an end that is not paired yet, and the peer is made first.
    peer_head = _IFINFO.pack(0, 0, peer_index, 0, 0)
    # The pid is the first attribute of the peer, so that its offset follows from what comes before.
    peer_info = peer_head + attribute(IFLA_NET_NS_PID, u32(pid)) + attribute(IFLA_IFNAME, text(peer))
    peer_info += attribute(IFLA_ADDRESS, pack_mac(peer_mac)) + attribute(IFLA_MTU, u32(mtu))
    kind = attribute(INFO_KIND, text("veth"))
    head = attribute(IFLA_IFNAME, text(name)) + attribute(IFLA_MTU, u32(mtu))
    head += attribute(IFLA_MASTER, u32(master)) if master else b""
    info = nest(IFLA_LINKINFO, kind, nest(INFO_DATA, attribute(VETH_INFO_PEER, peer_info)))
    data = message(NEWLINK, ACK | CREATE | EXCL, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP), head, info)
    offset = _HEADER.size + _IFINFO.size + len(head) + 4 + len(kind) + 4 + 4 + _IFINFO.size + 4
    return data, offset


def address(index: int, ip: str, prefix: int) -> bytes:
    """An address of a link. IPv6 ones skip duplicate address detection: the lease is what makes them ours, and
    waiting for it would delay the first packet by a second."""
    packed = pack_address(ip)
    flags = IFA_F_NODAD if ":" in ip else 0
    local = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return message(NEWADDR, ACK | CREATE | EXCL, _IFADDR.pack(_family(ip), prefix, flags, 0, index), local)


def default_route(gateway: str, index: int) -> bytes:
    head = _RTMSG.pack(_family(gateway), 0, 0, 0, 254, 3, 0, 1, 0)  # main table, boot, universe, unicast
    hop = attribute(RTA_GATEWAY, pack_address(gateway)) + attribute(RTA_OIF, u32(index))
    return message(NEWROUTE, ACK | CREATE | EXCL, head, hop)


def _family(address: str) -> int:
    return _socket.AF_INET6 if ":" in address else _socket.AF_INET


# -- reading ----------------------------------------------------------------------------------------------------


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, flags, body) of each message."""
    at = 0
    while at + 16 <= len(data):
        size, kind, flags, _seq, _port = _HEADER.unpack_from(data, at)
        if size < 16 or at + size > len(data):
            return
        yield kind, flags, data[at + 16 : at + size]
        at += size + (-size & 3)


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Attributes by type; of a repeated one the last. `at`: where they begin, after the fixed header."""
    return dict(attribute_list(data, at))


def attribute_list(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(data):
        size, kind = _ATTR.unpack_from(data, at)
        if size < 4 or at + size > len(data):
            return
        yield kind & TYPE_MASK, data[at + 4 : at + size]
        at += size + (-size & 3)


class Door:
    """A netlink socket in this process's network namespace; a context manager. Errors are OSError, the kernel's."""

    def __init__(self, family: int = ROUTE) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_NETLINK, kind, family)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Sends messages in one go and waits for each acknowledgement they ask for; the first refusal is raised."""
        awaited = sum(1 for _, flags, _ in messages(data) if flags & ACK)
        self._socket.send(data)
        while awaited:
            for kind, flags, body in messages(self._receive()):
                if kind == ERROR:
                    _raise_refusal(flags, body)
                    awaited -= 1

    def dump(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(type, body) of each message that answers one dump request."""
        self._socket.send(data)
        while True:
            for kind, flags, body in messages(self._receive()):
                if kind == DONE:
                    return
                if kind == ERROR:
                    _raise_refusal(flags, body)
                    return
                yield kind, body

    def ask(self, data: bytes) -> bytes:
        """The body of the one message that answers a request (without ACK). Raises OSError: ENOENT, ENODEV …"""
        self._socket.send(data)
        for kind, flags, body in messages(self._receive()):
            if kind == ERROR:
                _raise_refusal(flags, body)
            return body
        return b""

    def _receive(self) -> bytes:
        return self._socket.recv(1 << 18)


def _raise_refusal(flags: int, body: bytes) -> None:
    code = -_INT.unpack_from(body)[0]
    if not code:
        return
    why = ""
    if flags & _ACK_HAS_ATTRIBUTES:  # with CAP_ACK only the header of the request stands before them
        size = 16 if flags & _ACK_IS_CAPPED else _U32.unpack_from(body, 4)[0]
        why = attributes(body, 4 + size).get(_ERROR_MESSAGE, b"").rstrip(b"\0").decode("utf-8", "replace")
    raise OSError(code, f"{os.strerror(code)} ({why})" if why else os.strerror(code))


class Link:
    """What `links` tells of an interface."""

    __slots__ = ("index", "master", "mtu", "name", "up")

    def __init__(self, index: int, name: str, mtu: int, master: int, up: bool) -> None:
        self.index, self.name, self.mtu, self.master, self.up = index, name, mtu, master, up


def links(door: Door) -> Iterator[Link]:
    for kind, body in door.dump(message(GETLINK, DUMP, _IFINFO.pack(0, 0, 0, 0, 0))):
        if kind == NEWLINK:
            _, _, index, flags, _ = _IFINFO.unpack_from(body)
            found = attributes(body, _IFINFO.size)
            name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            mtu, master = (_number(found, key) for key in (IFLA_MTU, IFLA_MASTER))
            yield Link(index, name, mtu, master, bool(flags & IFF_UP))


def addresses(door: Door) -> Iterator[tuple[int, str, int]]:
    """(link index, address, prefix length) of each address in this namespace."""
    for kind, body in door.dump(message(GETADDR, DUMP, _IFADDR.pack(0, 0, 0, 0, 0))):
        if kind == NEWADDR:
            _, prefix, _, _, index = _IFADDR.unpack_from(body)
            found = attributes(body, _IFADDR.size)
            packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
            if packed:
                yield index, unpack_address(packed), prefix


def routes(door: Door) -> Iterator[tuple[int, bytes, int, int]]:
    """(family, destination as bytes, empty for a default route; prefix length, link index) of every unicast route."""
    for kind, body in door.dump(message(GETROUTE, DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))):
        if kind == NEWROUTE:
            family, prefix, *_, route_type, _ = _RTMSG.unpack_from(body)
            found = attributes(body, _RTMSG.size)
            if route_type == 1:
                yield family, found.get(RTA_DST, b""), prefix, _number(found, RTA_OIF)


def _number(found: dict[int, bytes], key: int) -> int:
    value = found.get(key)
    return int(_U32.unpack(value)[0]) if value and len(value) == 4 else 0
