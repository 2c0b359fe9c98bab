"""Connection tracking: forgetting the flows to a port, as nfnetlink bytes.

A flow keeps the translation that its first packet met. A sender of datagrams that does not pause would be sent to a
container that has ended, or past one that has just started, for as long as it goes on.
"""

from __future__ import annotations

import _socket
from struct import Struct

from knarr.host import netlink
from knarr.host.netlink import attribute, nest

# Before, a delete by half a tuple is refused (EINVAL).
FIRST_KERNEL = (6, 11)

_NFGEN = Struct("=BBBB")  # nfgenmsg: family, version, resource id
_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_TUPLE_ORIG, _FILTER = 1, 25
_TUPLE_PROTO, _PROTO_NUMBER, _PROTO_DST_PORT = 2, 1, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5


def forget(protocol: int, port: int, ipv6: bool = False) -> bytes:
    """Deletes every flow of that protocol (17: udp) that was begun to that port, whatever the address."""
    family = _socket.AF_INET6 if ipv6 else _socket.AF_INET
    to_port = attribute(_PROTO_NUMBER, bytes((protocol,))) + attribute(
        _PROTO_DST_PORT, port.to_bytes(2, "big")
    )
    flags = attribute(_FILTER_ORIG_FLAGS, netlink.u32(_BY_PROTOCOL_AND_PORT))
    return netlink.message(
        _DELETE,
        netlink.ACK,
        _NFGEN.pack(family, 1, 0, 0),  # version 0 would mean: of every family
        nest(_TUPLE_ORIG, nest(_TUPLE_PROTO, to_port)),
        nest(_FILTER, flags, attribute(_FILTER_REPLY_FLAGS, netlink.u32(0))),
    )
