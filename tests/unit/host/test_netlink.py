"""rtnetlink messages as the kernel's headers lay them out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.host import netlink
from knarr.host.netlink import Door


def test_an_attribute_is_padded_and_its_length_is_not() -> None:
    assert netlink.attribute(3, b"eth0\0") == b"\x09\0\x03\0eth0\0\0\0\0"


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), unique_by=lambda a: a[0]))
def test_attributes_come_back(given_: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, payload) for kind, payload in given_)
    assert netlink.attributes(b"head" + data, 4) == dict(given_)
    assert list(netlink.attribute_list(data)) == given_


@given(st.binary(max_size=200))
def test_nonsense_is_read_to_its_end(data: bytes) -> None:
    list(netlink.messages(data))
    list(netlink.attribute_list(data))


def test_messages_come_back() -> None:
    data = netlink.link_up(1) + netlink.link_up(name="eth0")
    assert [(kind, flags) for kind, flags, _ in netlink.messages(data)] == [(netlink.SETLINK, 5)] * 2


def test_the_pid_of_a_veth_is_where_it_says() -> None:
    for master in (0, 7):
        data, offset = netlink.veth("kn1", 0x10000001, master, 1500, "eth0", 1000, "02:6b:0a:4d:00:02")
        patched = data[:offset] + struct.pack("=I", 4711) + data[offset + 4 :]
        again = netlink.veth("kn1", 0x10000001, master, 1500, "eth0", 1000, "02:6b:0a:4d:00:02", 4711)[0]
        assert patched == again != data


def test_a_veth_has_both_ends_in_one_message() -> None:
    data, _ = netlink.veth("kn1", 0x10000001, 7, 1400, "eth0", 1000, "02:6b:0a:4d:00:02", 99)
    ((kind, flags, body),) = netlink.messages(data)
    assert kind == netlink.NEWLINK
    assert flags == netlink.REQUEST | netlink.ACK | netlink.CREATE | netlink.EXCL
    ours = netlink.attributes(body, 16)
    assert ours[netlink.IFLA_IFNAME] == b"kn1\0"
    assert ours[netlink.IFLA_MASTER] == netlink.u32(7)
    info = netlink.attributes(ours[netlink.IFLA_LINKINFO])
    peer = netlink.attributes(info[netlink.INFO_DATA])[netlink.VETH_INFO_PEER]
    theirs = netlink.attributes(peer, 16)
    assert struct.unpack_from("=i", peer, 4) == (1000,)
    assert theirs[netlink.IFLA_NET_NS_PID] == netlink.u32(99)
    assert theirs[netlink.IFLA_IFNAME] == b"eth0\0"
    assert theirs[netlink.IFLA_ADDRESS] == bytes.fromhex("026b0a4d0002")
    assert ours[netlink.IFLA_MTU] == theirs[netlink.IFLA_MTU] == netlink.u32(1400)


def test_addresses_of_both_families() -> None:
    (_, _, v4), (_, _, v6) = netlink.messages(
        netlink.address(3, "10.0.0.2", 16) + netlink.address(3, "fd00::2", 64)
    )
    assert v4[:8] == struct.pack("=BBBBI", 2, 16, 0, 0, 3)
    assert netlink.attributes(v4, 8)[netlink.IFA_LOCAL] == bytes((10, 0, 0, 2))
    assert v6[:8] == struct.pack("=BBBBI", 10, 64, netlink.IFA_F_NODAD, 0, 3)


def test_a_default_route() -> None:
    ((kind, _, body),) = netlink.messages(netlink.default_route("10.0.0.1", 1000))
    assert kind == netlink.NEWROUTE
    assert body[:2] == b"\x02\0"
    found = netlink.attributes(body, 12)
    assert found == {
        netlink.RTA_GATEWAY: bytes((10, 0, 0, 1)),
        netlink.RTA_OIF: netlink.u32(1000),
    }


@pytest.mark.parametrize("text", ["10.0.0.1", "::1", "fd00::2"])
def test_addresses_come_back(text: str) -> None:
    assert netlink.unpack_address(netlink.pack_address(text)) == text


def test_the_door_reads_this_machine() -> None:
    with Door() as door:
        lo = next(link for link in netlink.links(door) if link.name == "lo")
        assert lo.index == netlink.LOOPBACK
        assert all(isinstance(prefix, int) for _, _, prefix in netlink.addresses(door))
        list(netlink.routes(door))


def test_a_refusal_is_the_kernels() -> None:
    with Door() as door, pytest.raises(OSError) as caught:
        door.send(netlink.link_up(name="no-such-link"))
    assert caught.value.errno in (19, 1)  # ENODEV; EPERM for who may not ask
