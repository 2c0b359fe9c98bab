"""What a container on the bridge can reach, and who reaches it: seen with sockets on both sides."""

from __future__ import annotations

import os
import socket
import subprocess
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

import pytest

from contract.network.box import Box, call, listen, reaches
from contract.network.conftest import OUTSIDE, Attach, end
from knarr.errors import Conflict, UsageError
from knarr.host.paths import Paths
from knarr.network import bridge

pytestmark = pytest.mark.requires("root", "nft", "ip")


def server(box: Box, port: int = 80, kind: int = SOCK_STREAM) -> socket.socket:
    return listen(box.socket(AF_INET6, kind), port)


def test_the_host_and_a_container_reach_each_other(attached: Attach) -> None:
    box = attached()
    with server(box) as inside, listen(socket.socket(AF_INET6, SOCK_STREAM), 9000) as here:
        here.settimeout(5)
        gateway = box.attachment.gateway
        assert call(socket.socket(AF_INET, SOCK_STREAM), inside, (box.attachment.ip, 80)) == gateway
        assert call(box.socket(AF_INET, SOCK_STREAM), here, (gateway, 9000)) == box.attachment.ip


def test_containers_reach_each_other(attached: Attach) -> None:
    one, two = attached(), attached()
    with server(two) as inside:
        assert call(one.socket(AF_INET, SOCK_STREAM), inside, (two.attachment.ip, 80)) == one.attachment.ip


@pytest.mark.requires("ipv6")
def test_ipv6_between_containers_and_the_host(attached: Attach) -> None:
    one, two = attached(), attached()
    with server(two) as inside:
        address = (two.attachment.ip6, 80)
        assert call(one.socket(AF_INET6, SOCK_STREAM), inside, address) == one.attachment.ip6
        assert call(socket.socket(AF_INET6, SOCK_STREAM), inside, address) == two.attachment.gateway6


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])
def test_a_published_port_on_loopback(attached: Attach, kind: int) -> None:
    box = attached("8080:80" if kind == SOCK_STREAM else "8080:80/udp")
    with server(box, kind=kind) as inside:
        # The host's loopback address means nothing to the container, so it sees the gateway.
        assert call(socket.socket(AF_INET, kind), inside, ("127.0.0.1", 8080)) == box.attachment.gateway


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM], ids=["tcp", "udp"])
def test_a_published_port_from_another_machine_keeps_the_source_address(
    attached: Attach, outside: Box, kind: int
) -> None:
    box = attached("8080:80" if kind == SOCK_STREAM else "8080:80/udp")
    with server(box, kind=kind) as inside:
        assert call(outside.socket(AF_INET, kind), inside, (f"{OUTSIDE}.1", 8080)) == f"{OUTSIDE}.2"
        # The host itself, at the address it has outside.
        assert call(socket.socket(AF_INET, kind), inside, (f"{OUTSIDE}.1", 8080)) == f"{OUTSIDE}.1"


@pytest.mark.requires("ipv6")
def test_a_published_port_by_ipv6(attached: Attach, outside: Box) -> None:
    box = attached("8080:80")
    with server(box) as inside:
        assert call(outside.socket(AF_INET6, SOCK_STREAM), inside, ("2001:db8::1", 8080)) == "2001:db8::2"


@pytest.mark.requires("ipv6")
def test_what_comes_from_ipv6_loopback_is_the_monitors_to_relay(attached: Attach) -> None:
    """Where nobody does (here no monitor is), a client of `localhost` goes on to 127.0.0.1: it is refused at once."""
    box = attached("8080:80", "127.0.0.1:8081:80", "[::1]:8082:82", "8083:83/udp")
    assert sorted(box.attachment.relayed.values()) == [80, 82]
    assert set(box.attachment.relayed) < set(box.attachment.hold_fds)
    assert box.attachment.relay_to == box.attachment.ip
    with server(box), socket.socket(AF_INET6, SOCK_STREAM) as client:
        client.settimeout(5)
        with pytest.raises(ConnectionRefusedError):
            client.connect(("::1", 8080))
    with pytest.raises(UsageError, match="from ::1 only tcp"):
        attached("[::1]:8083:80/udp")


def test_a_container_calls_published_ports_by_the_hosts_address(attached: Attach) -> None:
    one, two = attached("8081:80"), attached("8082:80")
    gateway = one.attachment.gateway
    with server(one) as own, server(two) as other:
        assert call(one.socket(AF_INET, SOCK_STREAM), other, (gateway, 8082)) == gateway
        assert call(one.socket(AF_INET, SOCK_STREAM), own, (gateway, 8081)) == gateway


def test_a_port_of_one_address_is_only_there(attached: Attach, outside: Box) -> None:
    box = attached("127.0.0.1:8080:80", f"{OUTSIDE}.1:8081:80")
    with server(box) as inside:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", 8080))
        call(outside.socket(AF_INET, SOCK_STREAM), inside, (f"{OUTSIDE}.1", 8081))
        assert not reaches(outside.socket(AF_INET, SOCK_STREAM), (f"{OUTSIDE}.1", 8080))
        assert not reaches(socket.socket(AF_INET, SOCK_STREAM), ("127.0.0.1", 8081))


def test_a_range_of_ports(attached: Attach) -> None:
    box = attached("8080-8082:90-92", "8090-8099:80/udp")
    with server(box, 92) as inside, server(box, 80, SOCK_DGRAM) as udp:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", 8082))
        call(socket.socket(AF_INET, SOCK_DGRAM), udp, ("127.0.0.1", 8090))


def test_a_thousand_ports(attached: Attach) -> None:
    box = attached("20000-20999:20000-20999")
    with server(box, 20999) as inside:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", 20999))


def test_a_random_port(attached: Attach) -> None:
    box = attached("80")
    port = box.attachment.published[0].host_port
    with server(box) as inside:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", port))


def test_a_container_goes_out_by_the_hosts_address(attached: Attach, outside: Box) -> None:
    box = attached()
    with server(outside, 7000) as there:
        assert call(box.socket(AF_INET, SOCK_STREAM), there, (f"{OUTSIDE}.2", 7000)) == f"{OUTSIDE}.1"
        assert call(box.socket(AF_INET6, SOCK_STREAM), there, ("2001:db8::2", 7000)) == "2001:db8::1"


def test_nobody_routes_to_what_is_not_published(attached: Attach, outside: Box) -> None:
    box = attached("8080:80")
    outside.ip(f"route add 10.0.0.0/8 via {OUTSIDE}.1")
    with server(box), server(box, 81):
        assert not reaches(outside.socket(AF_INET, SOCK_STREAM), (box.attachment.ip, 81))
        assert not reaches(outside.socket(AF_INET, SOCK_STREAM), (box.attachment.ip, 80))


def test_a_container_does_not_reach_the_hosts_loopback(attached: Attach) -> None:
    """route_localnet makes it possible (CVE-2020-8558); the ruleset prevents it."""
    box = attached("8080:80")
    box.ip("address del 127.0.0.1/8 dev lo")
    box.ip("route flush table local type local 127.0.0.0/8")
    box.ip(f"route add 127.0.0.0/8 via {box.attachment.gateway} dev eth0")
    with listen(socket.socket(AF_INET, SOCK_DGRAM), 9001) as here, box.socket(AF_INET, SOCK_DGRAM) as own:
        own.bind((box.attachment.ip, 0))
        own.sendto(b"to the gateway", (box.attachment.gateway, 9001))
        assert here.recv(100) == b"to the gateway"
        own.sendto(b"to loopback", ("127.0.0.1", 9001))
        here.settimeout(0.3)
        with pytest.raises(TimeoutError):
            here.recv(100)


def test_a_port_is_had_once(attached: Attach) -> None:
    attached("8080:80")
    with pytest.raises(Conflict, match=r"bind for 0\.0\.0\.0:8080 failed: port is already allocated"):
        attached("8080:81")
    with pytest.raises(Conflict, match="already allocated"):
        attached("127.0.0.1:8080:81")
    attached("8080:80/udp")


def test_a_port_of_another_program(attached: Attach) -> None:
    with listen(socket.socket(AF_INET, SOCK_STREAM), 8080), pytest.raises(Conflict, match="8080"):
        attached("8080:80")
    attached("8080:80")


def test_another_program_does_not_get_a_published_port(attached: Attach) -> None:
    attached("8080:80")
    with socket.socket(AF_INET, SOCK_STREAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", 8080))


def test_a_port_whose_old_connections_linger(attached: Attach) -> None:
    """A server that has just been stopped leaves its port in TIME_WAIT for a minute."""
    with listen(socket.socket(AF_INET, SOCK_STREAM), 8080) as old:
        client = socket.create_connection(("127.0.0.1", 8080))
        accepted, _ = old.accept()
        accepted.close()
        assert client.recv(1) == b""
        client.close()
    attached("8080:80")
    with pytest.raises(Conflict, match="already allocated"):
        attached("8080:80")


def test_a_range_takes_the_first_free_port(attached: Attach) -> None:
    attached("8080:80")
    assert attached("8080-8082:80").attachment.published[0].host_port == 8081
    attached("8082:80")
    with pytest.raises(Conflict, match="all ports are already allocated"):
        attached("8080-8082:80")


def test_an_address_the_host_does_not_have(attached: Attach) -> None:
    with pytest.raises(UsageError, match=r"203\.0\.113\.9:8080 failed: this host does not have that address"):
        attached("203.0.113.9:8080:80")


def test_a_port_is_free_once_its_container_has_ended(attached: Attach) -> None:
    first = attached("8080:80")
    end(first)
    second = attached("8080:80")
    assert second.attachment.ip != first.attachment.ip
    with server(second) as inside:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", 8080))


def test_datagrams_follow_the_port_to_the_next_container(attached: Attach) -> None:
    """A sender that never pauses keeps its flow, and the flow keeps the first packet's translation."""
    with socket.socket(AF_INET, SOCK_DGRAM) as sender:
        sender.settimeout(5)
        sender.connect(("127.0.0.1", 8080))
        sender.send(b"before anybody")
        for _ in range(2):
            box = attached("8080:80/udp")
            with server(box, kind=SOCK_DGRAM) as inside:
                # Refused datagrams of before are reported on the next call.
                for _ in range(3):
                    try:
                        sender.send(b"question")
                    except ConnectionRefusedError:
                        continue
                assert inside.recv(100) == b"question"
            end(box)


def test_addresses_names_and_mac(attached: Attach) -> None:
    box = attached(hostname="web", add_hosts=["db:10.1.2.3", "host:host-gateway"])
    found = box.attachment
    shown = box.ip("address show dev eth0")
    assert f"inet {found.ip}/16" in shown
    assert f"inet6 {found.ip6}/64" in shown
    assert found.mac in shown
    assert f"default via {found.gateway} dev eth0" in box.ip("route")
    assert "LOOPBACK,UP" in box.ip("link show dev lo")
    assert f"{found.ip}\tweb\n" in found.hosts
    assert "10.1.2.3\tdb\n" in found.hosts
    assert f"{found.gateway}\thost\n" in found.hosts


def test_a_mac_and_an_address_of_ones_own(attached: Attach) -> None:
    first = attached()
    base = first.attachment.gateway.rpartition(".")[0]
    box = attached(mac="02:00:00:00:00:07", ip=f"{base}.77")
    assert "02:00:00:00:00:07" in box.ip("link show dev eth0")
    assert f"{base}.77/16" in box.ip("address show dev eth0")
    with pytest.raises(Conflict, match="already in use"):
        attached(ip=f"{base}.77")
    with pytest.raises(UsageError, match="not free for containers"):
        attached(ip="192.0.2.9")


def test_an_interface_is_there_among_tunnels(attached: Attach) -> None:
    """New namespaces may come with tunnel devices, whose indexes come first; ours is asked for."""
    assert "1000: eth0" in attached().ip("link")


@pytest.mark.parametrize("mode", ["none", "host"])
def test_without_a_network_of_ones_own(attached: Attach, mode: str) -> None:
    box = attached("8080:80", mode=mode, kinds="net" if mode == "none" else "")
    assert box.attachment.warnings == (f"published ports are discarded with --network {mode}",)
    if mode == "none":
        assert [line.split(":")[1].strip() for line in box.ip("-o link").splitlines()] == ["lo"]
        assert "LOOPBACK,UP" in box.ip("link")
    else:
        assert os.stat(f"/proc/{box.pid}/ns/net").st_ino == os.stat("/proc/thread-self/ns/net").st_ino


def test_another_containers_network(attached: Attach) -> None:
    one = attached()
    path = f"/proc/{one.pid}/ns/net"
    two = attached(mode="container:one", join=path, kinds="", hostname="")
    assert two.attachment.namespace == path
    assert two.attachment.hosts == ""
    with pytest.raises(UsageError, match="conflicting options: -p"):
        attached("80:80", mode="container:one", join=path, hostname="")


def test_a_forward_policy_of_drop_is_no_obstacle(attached: Attach, outside: Box, paths: Paths) -> None:
    """iptables' FORWARD drops by default where docker or a firewall is: nobody else's accept overrides that."""
    rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    subprocess.run(["nft", rules], check=True)
    try:
        box = attached("8080:80")
        with server(box) as inside, server(outside, 7000) as there:
            call(outside.socket(AF_INET, SOCK_STREAM), inside, (f"{OUTSIDE}.1", 8080))
            call(box.socket(AF_INET, SOCK_STREAM), there, (f"{OUTSIDE}.2", 7000))
        attached()
        name, _, _ = bridge.names(paths.run)
        listed = subprocess.run(
            ["nft", "list", "table", "ip", "filter"], check=True, capture_output=True, text=True
        )
        assert listed.stdout.count(name) == 2
    finally:
        subprocess.run(["nft", "delete table ip filter"], check=True)
