"""Modes, and what is refused: what needs no privilege of `prepare`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.errors import HostError, UsageError
from knarr.host.paths import Paths
from knarr.network import attach, bridge, mend, rootless, ruleset
from knarr.network.ports import Published, parse_ports
from knarr.plan.facts import HostFacts

ROOT = HostFacts((6, 18), "x86_64", 0, 0)
USER = ROOT._replace(euid=1000, tools={"slirp4netns": "/usr/bin/slirp4netns", "pasta": "/usr/bin/pasta"})
ID = "a" * 64


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "root"), str(tmp_path / "run"), ())


@pytest.fixture
def with_tun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootless, "_TUN", "/dev/null")


def test_the_default_of_root_is_the_bridge() -> None:
    assert {attach.resolve_mode(mode, ROOT) for mode in ("", "default", "bridge")} == {"bridge"}


@pytest.mark.usefixtures("with_tun")
def test_the_default_of_others_is_what_is_there() -> None:
    assert attach.resolve_mode("bridge", USER) == "slirp4netns"
    assert attach.resolve_mode("", USER._replace(tools={"pasta": "/usr/bin/pasta"})) == "pasta"
    assert attach.resolve_mode("", USER._replace(tools={})) == "none"


def test_modes_that_are_what_they_say() -> None:
    for mode in ("none", "host", "container:abc"):
        assert attach.resolve_mode(mode, ROOT) == mode


def test_no_such_mode() -> None:
    with pytest.raises(UsageError, match="--network nonsense: no such network"):
        attach.resolve_mode("nonsense", ROOT)
    with pytest.raises(HostError, match="pasta: not found"):
        attach.resolve_mode("pasta", ROOT)


def test_a_user_without_a_program_is_warned(paths: Paths) -> None:
    found = attach.prepare(paths, USER._replace(tools={}), ID, "bridge")
    assert (found.mode, found.namespace) == ("none", "new")
    assert "apt install slirp4netns" in found.warnings[0]
    with pytest.raises(HostError, match="no network to publish on"):
        attach.prepare(paths, USER._replace(tools={}), ID, "bridge", parse_ports(["80"]))


def test_a_user_without_the_tun_device(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootless, "_TUN", "/no/such/device")
    assert "modprobe tun" in attach.prepare(paths, USER, ID).warnings[0]


def test_none_has_loopback(paths: Paths) -> None:
    found = attach.prepare(paths, ROOT, ID, "none", hostname="box")
    assert [step.op for step in found.child_steps] == ["netlink"]
    assert found.hostname == "box\n"
    assert "box" not in found.hosts
    assert (found.host_steps, found.teardown_steps, found.hold_fds) == ((), (), ())


def test_host_has_the_hosts(paths: Paths) -> None:
    found = attach.prepare(paths, ROOT, ID, "host", add_hosts=["db:10.1.2.3"])
    assert found.namespace == "host"
    assert found.child_steps == ()
    assert found.hostname == os.uname().nodename + "\n"
    assert found.hosts.endswith("10.1.2.3\tdb\n")


@pytest.mark.parametrize("mode", ["none", "host"])
def test_ports_are_discarded_with_a_warning(paths: Paths, mode: str) -> None:
    found = attach.prepare(paths, ROOT, ID, mode, parse_ports(["80"]))
    assert "discarded" in found.warnings[0]


@pytest.mark.parametrize(
    ("flag", "asked"),
    [
        ("--hostname", {"hostname": "x"}),
        ("--dns", {"dns": ["1.1.1.1"]}),
        ("--dns", {"dns_search": ["lan"]}),
        ("--add-host", {"add_hosts": ["db:10.1.2.3"]}),
        ("--mac-address", {"mac": "02:00:00:00:00:01"}),
    ],
)
def test_another_containers_network_has_its_own(paths: Paths, flag: str, asked: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"conflicting options: {flag} and --network container:x"):
        attach.prepare(paths, ROOT, ID, "container:x", join="/proc/1/ns/net", **asked)  # type: ignore[arg-type]


def test_another_containers_namespace(paths: Paths) -> None:
    assert attach.prepare(paths, ROOT, ID, "container:x", join="/proc/1/ns/net").namespace == "/proc/1/ns/net"
    with pytest.raises(UsageError, match="no namespace to join"):
        attach.prepare(paths, ROOT, ID, "container:x")


@pytest.mark.parametrize(
    "mac", ["nonsense", "01:00:00:00:00:01", "02:00:00:00:00", "02:00:00:00:00:0g", "2:0:0:0:0:1"]
)
def test_no_mac(paths: Paths, mac: str) -> None:
    with pytest.raises(UsageError, match="--mac-address"):
        attach.prepare(paths, ROOT, ID, "bridge", mac=mac)


def test_an_address_is_the_bridges(paths: Paths) -> None:
    with pytest.raises(UsageError, match="only be chosen on the bridge"):
        attach.prepare(paths, ROOT, ID, "none", ip="10.77.0.9")


def test_only_tcp_is_relayed_from_ipv6_loopback(paths: Paths) -> None:
    with pytest.raises(UsageError, match=r"-p \[::1\]:…/udp"):
        attach.prepare(paths, ROOT, ID, "bridge", parse_ports(["[::1]:80:80/udp"]))


@pytest.mark.usefixtures("with_tun")
def test_user_mode_takes_a_lifeline_and_gives_it_back(paths: Paths) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = attach.prepare(paths, USER, ID, "bridge", hostname="box")
    assert found.pauses == ("network",)
    assert found.resolv_conf.startswith("nameserver 10.0.2.3\n")
    assert "10.0.2.100\tbox\n" in found.hosts
    assert len(os.listdir("/proc/self/fd")) == before + 2
    attach.release(found)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(UsageError, match="--add-host"):
        attach.prepare(paths, USER, ID, "bridge", add_hosts=["x"])
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_of_bridge_table_and_links_fit() -> None:
    assert bridge.names("/run/knarr") == ("knarr0", "knarr", "kn")
    name, table, veth = bridge.names("/run/other")
    assert len(name) <= 15
    assert len(veth) + 8 <= 15
    assert table.isidentifier()
    assert bridge.names("/run/another") != bridge.names("/run/other")


@pytest.mark.parametrize("text", ["", "nonsense", "link x\n", "link 3\nmtu 1500\nsubnet 10.77.0.0/16\n"])
def test_a_damaged_record_is_none(paths: Paths, text: str) -> None:
    os.makedirs(bridge.directory(paths))
    Path(bridge.directory(paths), ".network").write_text(text)
    assert bridge.recorded(paths) is None


def test_elements_by_address_and_family() -> None:
    def of(ip: str, ip6: str = "fd00::2") -> str:
        found = ruleset.element(Published(ip, 8080, 80, "tcp"), "10.77.0.2", ip6, ID)
        return f"{found[0]} {found[1].key.hex()} {found[1].data.hex()}" if found else ""

    assert of("0.0.0.0") == "any4 060000001f900000 0a4d000200500000"
    assert of("192.0.2.1") == "ports4 06000000c00002011f900000 0a4d000200500000"
    assert of("::").startswith("any6 060000001f900000 fd00")
    assert of("::", "") == ""


def test_the_ruleset_names_its_version() -> None:
    network = bridge.Network("/x", "knarr0", "knarr", "kn", 3, 1500, "10.77.0.0/16", "fd00::/64")
    text = ruleset.ruleset(network)
    assert f'comment "{ruleset.MARK[:-1].decode()}"' in text
    assert text.count("{") == text.count("}")
    assert "elements = { fd00::/64 }" in text
    assert "fd00" not in ruleset.ruleset(network._replace(subnet6=""))


def test_mending_where_there_is_nothing(paths: Paths) -> None:
    assert mend.mend(paths, lambda owner: False) == []
