"""nfnetlink batches, and flows forgotten, as the kernel's headers lay them out."""

from __future__ import annotations

import pytest

from knarr.errors import HostError
from knarr.host import conntrack, netlink, nft
from knarr.host.nft import Element

KEY, DATA = bytes(8), bytes(range(8))


def types(batch: bytes) -> list[int]:
    return [kind for kind, _, _ in netlink.messages(batch)]


def test_a_batch_has_a_begin_and_an_end() -> None:
    assert types(nft.add_elements("t", [("m", Element(KEY, DATA))])) == [0x10, 0x0A0C, 0x11]
    assert types(nft.delete_elements("t", [("m", Element(KEY, DATA))])) == [0x10, 0x0A0E, 0x11]
    assert types(nft.delete_table("t")) == [0x10, 0x0A02, 0x11]


def test_only_the_elements_ask_for_an_acknowledgement() -> None:
    flags = [
        flags & netlink.ACK for _, flags, _ in netlink.messages(nft.add_elements("t", [("m", Element(KEY))]))
    ]
    assert flags == [0, netlink.ACK, 0]


def test_a_message_per_map() -> None:
    pairs = [("a", Element(b"1234")), ("b", Element(b"5678")), ("a", Element(b"9012"))]
    _, (_, _, first), (_, _, second), _ = netlink.messages(nft.add_elements("t", pairs))
    assert netlink.attributes(first, 4)[2] == b"a\0"
    assert netlink.attributes(second, 4)[2] == b"b\0"


def test_elements_come_back() -> None:
    _, (_, _, body), _ = netlink.messages(nft.add_elements("t", [("m", Element(KEY, DATA, "who"))]))
    (element,) = nft._elements_of(body)
    assert (element.key, element.data, element.comment) == (KEY, DATA, "who")


def test_a_delete_names_only_the_key() -> None:
    _, (_, _, body), _ = netlink.messages(nft.delete_elements("t", [("m", Element(KEY, DATA, "who"))]))
    (element,) = nft._elements_of(body)
    assert (element.key, element.data, element.comment) == (KEY, b"", "")


def test_many_elements_are_several_messages() -> None:
    """The list of a message is an attribute, whose length has 16 bits."""
    pairs = [
        ("m", Element(n.to_bytes(4, "big"), DATA, "c" * 64)) for n in range(nft.ELEMENTS_PER_MESSAGE + 1)
    ]
    batch = nft.add_elements("t", pairs)
    assert len(types(batch)) == 4
    assert all(
        len(netlink.attributes(body, 4)[3]) < 65536 for _, _, body in list(netlink.messages(batch))[1:-1]
    )


def test_a_comment_among_other_user_data() -> None:
    assert nft._comment(b"\x07\x02ab\x00\x04who\0") == "who"
    assert nft._comment(b"\x07\x02ab") == ""
    assert nft._comment(b"\x00") == ""


def test_flows_by_protocol_and_port() -> None:
    ((kind, flags, body),) = netlink.messages(conntrack.forget(17, 53, ipv6=True))
    assert kind == 0x0102
    assert flags & netlink.ACK
    assert body[:2] == b"\x0a\x01"
    found = netlink.attributes(body, 4)
    to_port = netlink.attributes(netlink.attributes(found[1])[2])
    assert to_port == {1: b"\x11", 3: b"\0\x35"}
    assert netlink.attributes(found[25])[1] == netlink.u32(0x28)


def test_without_the_program() -> None:
    with pytest.raises(HostError, match="not found") as caught:
        nft.apply("/no/such/nft", "")
    assert "apt install" in caught.value.hint
