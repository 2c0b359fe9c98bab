"""docker's forms of -p, and host ports reserved by binding them."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from threading import Timer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import Conflict, UsageError
from knarr.network.ports import (
    PortRequest,
    Published,
    from_text,
    parse_exposed,
    parse_port,
    publish_all,
    reserve,
    to_text,
)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("80", ("", 0, 0, 80, "tcp")),
        ("0:80", ("", 0, 0, 80, "tcp")),  # docker: any free one
        ("8080:80", ("", 8080, 8080, 80, "tcp")),
        ("8080:80/udp", ("", 8080, 8080, 80, "udp")),
        ("8080:80/TCP", ("", 8080, 8080, 80, "tcp")),
        ("132:132/sctp", ("", 132, 132, 132, "sctp")),
        ("127.0.0.1:8080:80", ("127.0.0.1", 8080, 8080, 80, "tcp")),
        ("127.0.0.1::80", ("127.0.0.1", 0, 0, 80, "tcp")),
        ("[::1]:8080:80", ("::1", 8080, 8080, 80, "tcp")),
        ("[2001:DB8::0:1]::80", ("2001:db8::1", 0, 0, 80, "tcp")),
        ("8000-8010:80", ("", 8000, 8010, 80, "tcp")),
        ("0.0.0.0:8080:80", ("0.0.0.0", 8080, 8080, 80, "tcp")),
        (":80", ("", 0, 0, 80, "tcp")),
    ],
)
def test_one_port(text: str, request_: tuple[str, int, int, int, str]) -> None:
    assert parse_port(text) == [PortRequest(*request_)]


def test_ranges_match_one_to_one() -> None:
    assert [(r.host_first, r.host_last, r.container_port) for r in parse_port("8000-8002:90-92")] == [
        (8000, 8000, 90),
        (8001, 8001, 91),
        (8002, 8002, 92),
    ]
    assert [(r.host_first, r.container_port) for r in parse_port("90-91")] == [(0, 90), (0, 91)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no container port"),
        ("8080:", "no container port"),
        ("8080:web", "invalid container port 'web'"),
        ("web:80", "invalid host port 'web'"),
        ("127.0.0.1:80", "invalid host port '127.0.0.1'"),
        ("80:0", "invalid container port '0'"),
        ("65536:80", "invalid host port '65536'"),
        ("9-8:80", "invalid host port '9-8'"),
        ("80:80/icmp", "invalid protocol 'icmp'"),
        ("80:80/", "invalid protocol ''"),
        ("1.2.3:80:80", "invalid ip address '1.2.3'"),
        ("example.com:80:80", "invalid ip address 'example.com'"),
        ("::1:80:80", "needs brackets"),
        ("8000-8001:1-3", "differ in length"),
        ("٣:80", "invalid host port"),
        ("+80:80", "invalid host port"),
    ],
)
def test_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        parse_port(text)
    assert str(caught.value).startswith(f"-p {text}: ")


@given(st.text(alphabet="0123456789-:/[]tcpudx.", max_size=24))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_port(text)
    except UsageError:
        return
    assert all(0 < request.container_port < 65536 for request in found)


def test_exposed_ports() -> None:
    assert parse_exposed("80") == [(80, "tcp")]
    assert parse_exposed("53-54/udp") == [(53, "udp"), (54, "udp")]
    with pytest.raises(UsageError, match="exposed port 80:80"):
        parse_exposed("80:80")


def test_publish_all_takes_what_is_not_published_yet() -> None:
    found = publish_all(["80/tcp", "53/udp", "80"], parse_port("8080:80"))
    assert found == [PortRequest("", 0, 0, 53, "udp")]


def test_shown_as_docker_does() -> None:
    assert str(Published("0.0.0.0", 8080, 80, "tcp")) == "0.0.0.0:8080->80/tcp"
    assert str(Published("::", 53, 53, "udp")) == "[::]:53->53/udp"


def test_text_comes_back() -> None:
    ports = [Published("0.0.0.0", 8080, 80, "tcp"), Published("fd00::1", 53, 53, "udp")]
    assert list(from_text(to_text(ports))) == ports
    assert list(from_text("nonsense\ntcp a b c\n")) == []


def loopback(port: int = 0, last: int = 0, protocol: str = "tcp") -> PortRequest:
    return PortRequest("127.0.0.1", port, last or port, 80, protocol)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_reserved_port_is_nobody_elses(protocol: str) -> None:
    (published,), (held,) = reserve([loopback(protocol=protocol)], ipv6=False)
    with (
        closing(held),
        pytest.raises(Conflict, match=f"127.0.0.1:{published.host_port} failed: port is already"),
    ):
        reserve([loopback(published.host_port, protocol=protocol)], ipv6=False)
    _, (again,) = reserve([loopback(published.host_port, protocol=protocol)], ipv6=False)
    again.close()


def test_both_families_by_one_socket() -> None:
    published, (held,) = reserve([PortRequest("", 0, 0, 80, "tcp")], ipv6=True)
    with closing(held):
        if held.family == socket.AF_INET6:
            assert [port.host_ip for port in published] == ["0.0.0.0", "::"]
        with pytest.raises(Conflict):
            reserve([loopback(published[0].host_port)], ipv6=False)


def test_nothing_stays_bound_after_a_refusal() -> None:
    (taken,), (held,) = reserve([loopback()], ipv6=False)
    before = len(os.listdir("/proc/self/fd"))
    with closing(held), pytest.raises(Conflict):
        reserve([loopback(), loopback(), loopback(taken.host_port)], ipv6=False)
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_the_first_free_one_of_a_range() -> None:
    (first,), (held,) = reserve([loopback()], ipv6=False)
    with closing(held):
        (found,), (other,) = reserve(
            [loopback(first.host_port, min(first.host_port + 50, 65535))], ipv6=False
        )
        other.close()
    assert found.host_port > first.host_port


def test_not_an_address_of_this_host() -> None:
    with pytest.raises(UsageError, match="does not have that address"):
        reserve([PortRequest("203.0.113.9", 8080, 8080, 80, "tcp")], ipv6=False)


def test_sockets_close_on_exec() -> None:
    _, (held,) = reserve([loopback()], ipv6=False)
    with closing(held):
        assert not os.get_inheritable(held.fileno())


def test_a_holder_that_is_just_ending_is_waited_for() -> None:
    """`restart`: the kernel closes a dead monitor's descriptors a moment after its lock."""
    (taken,), (held,) = reserve([loopback()], ipv6=False)
    ending = Timer(0.05, held.close)
    ending.start()
    _, (again,) = reserve([loopback(taken.host_port)], ipv6=False)
    again.close()
    ending.join()
