"""What is there again after a crash, a flush, a reboot; and that nothing stays behind."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from socket import AF_INET, SOCK_STREAM
from threading import Thread

import pytest

from contract.network.box import Box, call, listen
from contract.network.conftest import Attach, end
from knarr.errors import HostError
from knarr.host import native, netlink, nft
from knarr.host.paths import Paths
from knarr.network import attach, bridge, leases, make, mend, ruleset
from knarr.network.ports import parse_ports
from knarr.plan.facts import HostFacts

pytestmark = pytest.mark.requires("root", "nft", "ip")


def elements(paths: Paths) -> list[str]:
    """Who owns the elements of our maps."""
    with netlink.Door(netlink.NETFILTER) as door:
        table = bridge.names(paths.run)[1]
        return [e.comment for name in ruleset.MAPS for e in nft.elements(door, table, name)]


def owners(paths: Paths) -> list[str]:
    return [owner for _, owner in leases.leases(bridge.directory(paths))]


def answers(box: Box, port: int) -> None:
    with listen(box.socket(AF_INET, SOCK_STREAM), 80) as inside:
        call(socket.socket(AF_INET, SOCK_STREAM), inside, ("127.0.0.1", port))


def link_names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_tear_down_leaves_nothing(attached: Attach, paths: Paths) -> None:
    box = attached("8080:80", "53:53/udp", "127.0.0.1:8081:80")
    assert elements(paths)
    end(box)
    assert elements(paths) == []
    assert owners(paths) == []
    assert os.listdir(f"{bridge.directory(paths)}/.ports") == []


def test_a_killed_monitor_is_mended(attached: Attach, paths: Paths) -> None:
    crashed, living = attached("8080:80"), attached("8081:80")
    crashed.end()
    for fd in crashed.attachment.hold_fds:
        os.close(fd)
    crashed_id, living_id = sorted(set(owners(paths)))
    assert mend.mend(paths, lambda owner: owner == living_id) == [crashed_id]
    assert set(elements(paths)) == {living_id}
    assert owners(paths) == [living_id]
    answers(living, 8081)
    assert mend.mend(paths, lambda owner: owner == living_id) == []


def test_a_port_left_by_a_crash_is_taken_over(attached: Attach) -> None:
    """Before anybody mends: that the port could be bound proves that its container is gone."""
    crashed = attached("8080:80")
    crashed.end()
    for fd in crashed.attachment.hold_fds:
        os.close(fd)
    answers(attached("8080:80"), 8080)


def test_a_late_tear_down_takes_nothing_from_the_next_owner(attached: Attach) -> None:
    """The port's element has the same key for both; the number of the run is what differs."""
    crashed = attached("8080:80")
    crashed.end()
    for fd in crashed.attachment.hold_fds:
        os.close(fd)
    living = attached("8080:80")
    native.execute(crashed.attachment.teardown_steps)
    answers(living, 8080)


def test_a_command_killed_after_prepare(paths: Paths, facts: HostFacts) -> None:
    prepared = attach.prepare(paths, facts, "a" * 64, "bridge", parse_ports(["8080:80"]))
    for fd in prepared.hold_fds:
        os.close(fd)
    assert mend.mend(paths, lambda owner: False) == ["a" * 64]
    assert os.listdir(f"{bridge.directory(paths)}/.ports") == []


def test_release_gives_everything_back(paths: Paths, facts: HostFacts) -> None:
    attach.release(attach.prepare(paths, facts, "a" * 64, "bridge", parse_ports(["8080:80"])))
    assert owners(paths) == []
    attach.release(attach.prepare(paths, facts, "b" * 64, "bridge", parse_ports(["8080:80"])))


def test_a_failed_prepare_gives_everything_back(paths: Paths, facts: HostFacts) -> None:
    with pytest.raises(Exception, match="--add-host"):
        attach.prepare(paths, facts, "a" * 64, "bridge", parse_ports(["8080:80"]), add_hosts=["x:nonsense"])
    assert owners(paths) == []
    attach.release(attach.prepare(paths, facts, "b" * 64, "bridge", parse_ports(["8080:80"])))


def test_a_flushed_ruleset_comes_back_with_its_ports(attached: Attach, paths: Paths) -> None:
    """`nft flush ruleset` is what a firewall's restart does."""
    first = attached("8080:80")
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    second = attached("8081:80")
    answers(first, 8080)
    answers(second, 8081)
    end(first)
    end(second)
    assert elements(paths) == []


def test_flushed_rules_come_back(attached: Attach, paths: Paths) -> None:
    first = attached("8080:80")
    subprocess.run(["nft", "flush", "table", "inet", bridge.names(paths.run)[1]], check=True)
    attached()
    answers(first, 8080)


def test_a_removed_bridge_comes_back_with_its_containers(attached: Attach, paths: Paths) -> None:
    first = attached("8080:80")
    subprocess.run(["ip", "link", "delete", bridge.names(paths.run)[0]], check=True)
    second = attached()
    assert second.attachment.gateway == first.attachment.gateway
    answers(first, 8080)


def test_a_lost_run_directory(attached: Attach, paths: Paths) -> None:
    """The bridge is still there: its addresses are the network's."""
    first = attached()
    end(first)
    os.unlink(f"{bridge.directory(paths)}/.network")
    assert attached().attachment.gateway == first.attachment.gateway


def test_a_subnet_that_is_somebody_elses_is_not_chosen(attached: Attach) -> None:
    subprocess.run("ip link add other0 type bridge".split(), check=True)
    subprocess.run("ip address add 10.77.3.1/24 dev other0".split(), check=True)
    subprocess.run("ip link set other0 up".split(), check=True)
    try:
        assert attached().attachment.gateway == "10.78.0.1"
    finally:
        subprocess.run("ip link delete other0".split(), check=True)


def test_a_host_without_ipv6(attached: Attach) -> None:
    def disable(value: str) -> None:
        for name in ("all", "default"):
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
                file.write(value)

    disable("1")
    try:
        box = attached("8080:80")
        assert box.attachment.ip6 == ""
        assert [port.host_ip for port in box.attachment.published] == ["0.0.0.0"]
        answers(box, 8080)
    finally:
        disable("0")


def test_no_container_is_the_hosts_router(attached: Attach, paths: Paths) -> None:
    """CVE-2020-13401: an advertisement from a container would take over the host's IPv6 traffic."""
    attached()
    with open(f"/proc/sys/net/ipv6/conf/{bridge.names(paths.run)[0]}/accept_ra") as file:
        assert file.read() == "0\n"


def test_without_nft(paths: Paths, facts: HostFacts) -> None:
    with pytest.raises(HostError, match="needs nftables") as caught:
        attach.prepare(paths, facts._replace(tools={}), "a" * 64, "bridge")
    assert "apt install nftables" in caught.value.hint


def test_first_use_by_many_at_once(paths: Paths, facts: HostFacts) -> None:
    found: list[attach.Attachment] = []
    threads = [
        Thread(target=lambda n=n: found.append(attach.prepare(paths, facts, f"{n:064x}", "bridge")))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.ip for one in found}) == 8
    assert len({one.gateway for one in found}) == 1


def test_two_engines_share_nothing(attached: Attach, paths: Paths, facts: HostFacts) -> None:
    one = attached()
    other = paths._replace(run=f"{paths.run}-2")
    try:
        two = attach.prepare(other, facts, "a" * 64, "bridge")
        assert two.gateway != one.attachment.gateway
    finally:
        make.remove(other)


def test_removing_the_network(paths: Paths, facts: HostFacts) -> None:
    attach.release(attach.prepare(paths, facts, "a" * 64, "bridge"))
    name, table, _ = bridge.names(paths.run)
    assert name in link_names()
    make.remove(paths)
    make.remove(paths)
    assert name not in link_names()
    listed = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    assert table not in listed.stdout


def test_subnets_of_ones_own(paths: Paths, facts: HostFacts, tmp_path: Path) -> None:
    """Asked for in a file, from the next time the network is made on; never under a container's feet."""
    own = paths._replace(config=(str(tmp_path),))
    (tmp_path / "network.toml").write_text('subnet = "10.99.0.0/24"\nsubnet6 = "fd00:99::/64"\n')
    first = attach.prepare(own, facts, "a" * 64)
    try:
        assert (first.ip, first.gateway, first.ip6) == ("10.99.0.2", "10.99.0.1", "fd00:99::2")
        (tmp_path / "network.toml").write_text('subnet = "10.98.0.0/24"\nsubnet6 = ""\n')
        name, _, _ = bridge.names(own.run)
        for lose in ("down", "delete"):
            subprocess.run(
                ["ip", "link", *(["set", name, "down"] if lose == "down" else ["delete", name])], check=True
            )
            network = bridge.ready(own, facts)
            assert (network.gateway, network.gateway6) == ("10.99.0.1", "fd00:99::1")
    finally:
        attach.release(first)
    subprocess.run(["ip", "link", "delete", name], check=True)
    network = bridge.ready(own, facts)
    assert (network.gateway, network.gateway6) == ("10.98.0.1", "")


def test_a_subnet_of_ones_own_that_the_host_has_a_route_to(
    paths: Paths, facts: HostFacts, tmp_path: Path
) -> None:
    (tmp_path / "network.toml").write_text('subnet = "10.99.0.0/16"\n')
    for words in ("link add other0 type bridge", "address add 10.99.7.1/24 dev other0", "link set other0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    try:
        with pytest.raises(HostError, match=r"network.toml: subnet 10.99.0.0/16 overlaps with 10.99.7.0/24"):
            bridge.ready(paths._replace(config=(str(tmp_path),)), facts)
    finally:
        subprocess.run("ip link delete other0".split(), check=True)
