"""Addresses and subnets as numbers, judged by the standard library's ipaddress."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.network import address

networks = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda n: ipaddress.ip_network(n, strict=False)
) | st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda n: ipaddress.ip_network(n, strict=False)
)


@given(networks)
def test_subnets_are_read_and_shown(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> None:
    found = address.subnet(str(network))
    assert ipaddress.ip_network(str(found)) == network
    assert found.size == network.num_addresses
    assert int(network[-1]) in found
    assert int(network[-1]) + 1 not in found


@given(networks, networks)
def test_overlaps(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, two: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> None:
    assert address.subnet(str(one)).overlaps(address.subnet(str(two))) == one.overlaps(two)


def test_host_bits_are_cut_off() -> None:
    assert str(address.subnet("10.77.3.4/16")) == "10.77.0.0/16"
    assert address.subnet("10.77.0.0/16").at(258) == "10.77.1.2"


@pytest.mark.parametrize("text", ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "x/8", "10.0.0.0/-1", "::/129"])
def test_no_subnet(text: str) -> None:
    with pytest.raises(UsageError):
        address.subnet(text)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.256", "fe80::1%eth0", "a\0b", "010.0.0.1"])
def test_no_address(text: str) -> None:
    assert not address.is_address(text)


def test_one_spelling() -> None:
    assert address.canonical("FD00:0:0::0002") == "fd00::2"


def test_a_mac_is_local_and_unicast() -> None:
    mac = address.mac_of("10.77.1.2")
    assert mac == "02:6b:0a:4d:01:02"
    assert int(mac[:2], 16) & 3 == 2
