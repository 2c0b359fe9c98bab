"""/etc/hosts and /etc/resolv.conf of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.network import names


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\nsearch example.com corp\noptions ndots:2\n")
    return tmp_path


def made(host: Path, *words: object, **options: object) -> list[str]:
    paths = {"path": str(host / "resolv.conf"), "resolved": str(host / "resolved.conf")}
    return names.resolv_conf(*words, **paths, **options).splitlines()  # type: ignore[arg-type]


def test_hosts_has_the_containers_own_name() -> None:
    lines = names.hosts("web", ("10.77.0.2", "fd00::2"), [("db", "10.1.2.3")]).splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[1] == "::1\tlocalhost ip6-localhost ip6-loopback"
    assert lines[-3:] == ["10.1.2.3\tdb", "10.77.0.2\tweb", "fd00::2\tweb"]


def test_a_name_with_a_domain_is_known_by_both() -> None:
    assert "10.77.0.2\tweb.example.com web\n" in names.hosts("web.example.com", ("10.77.0.2", ""))


def test_without_an_address_there_is_only_localhost() -> None:
    assert "web" not in names.hosts("web", ("", ""))


def test_the_hosts_own_file(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n192.0.2.1 server")
    text = names.host_hosts([("db", "10.1.2.3")], str(tmp_path / "hosts"))
    assert text == "127.0.0.1 localhost\n192.0.2.1 server\n10.1.2.3\tdb\n"
    assert "localhost" in names.host_hosts([], str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("db:10.1.2.3", ("db", "10.1.2.3")),
        ("db=10.1.2.3", ("db", "10.1.2.3")),
        ("db:fd00::2", ("db", "fd00::2")),
        ("db=[fd00::2]", ("db", "fd00::2")),
        ("host:host-gateway", ("host", "10.77.0.1")),
    ],
)
def test_add_host(text: str, found: tuple[str, str]) -> None:
    assert names.parse_add_host(text, "10.77.0.1") == found


@pytest.mark.parametrize(
    "text", ["", "db", "db:", ":10.1.2.3", "db:10.1.2", "a b:10.1.2.3", "db:10.1.2.3\n1.1.1.1 x"]
)
def test_add_host_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--add-host"):
        names.parse_add_host(text, "10.77.0.1")


def test_no_gateway_to_name() -> None:
    with pytest.raises(UsageError, match="no way to the host"):
        names.parse_add_host("host:host-gateway", "")


def test_the_hosts_resolvers(host: Path) -> None:
    assert made(host) == ["nameserver 192.0.2.53", "search example.com corp", "options ndots:2"]


def test_what_is_given_replaces(host: Path) -> None:
    assert made(host, ("9.9.9.9",), ("lan",), ("edns0",)) == [
        "nameserver 9.9.9.9",
        "search lan",
        "options edns0",
    ]
    assert made(host, (), (".",)) == ["nameserver 192.0.2.53", "options ndots:2"]


def test_a_resolver_on_loopback_is_out_of_reach(host: Path) -> None:
    (host / "resolv.conf").write_text("nameserver 127.0.0.1\nnameserver ::1\nnameserver 192.0.2.9\n")
    assert made(host) == ["nameserver 192.0.2.9"]
    assert made(host, loopback=True)[0] == "nameserver 127.0.0.1"


def test_resolved_says_what_is_behind_its_stub(host: Path) -> None:
    (host / "resolv.conf").write_text("nameserver 127.0.0.53\nsearch here\n")
    (host / "resolved.conf").write_text("nameserver 192.0.2.7\nnameserver fe80::1%eth0\nsearch there\n")
    assert made(host) == ["nameserver 192.0.2.7", "search there"]
    assert made(host, loopback=True) == ["nameserver 127.0.0.53", "search here"]
    (host / "resolved.conf").unlink()
    assert made(host) == ["nameserver 8.8.8.8", "nameserver 8.8.4.4", "search here"]


def test_ipv6_resolvers_where_there_is_no_ipv6(host: Path) -> None:
    (host / "resolv.conf").write_text("nameserver 2001:db8::53\nnameserver 192.0.2.53\n")
    assert made(host, ipv6=False) == ["nameserver 192.0.2.53"]
    assert made(host) == ["nameserver 2001:db8::53", "nameserver 192.0.2.53"]


def test_the_networks_own_resolver(host: Path) -> None:
    assert made(host, own_server="10.0.2.3")[0] == "nameserver 10.0.2.3"
    assert made(host, ("9.9.9.9",), own_server="10.0.2.3")[0] == "nameserver 9.9.9.9"


def test_no_resolv_conf_at_all(tmp_path: Path) -> None:
    assert made(tmp_path) == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]


@pytest.mark.parametrize("server", ["nonsense", "1.2.3.4\nnameserver 6.6.6.6", ""])
def test_a_wrong_resolver(host: Path, server: str) -> None:
    with pytest.raises(UsageError, match="--dns"):
        made(host, (server,))


@pytest.mark.parametrize("word", ["", "a b", "a\nnameserver 6.6.6.6"])
def test_a_word_is_one_word(word: str) -> None:
    with pytest.raises(UsageError, match="--dns-search"):
        names.checked_words([word], "--dns-search")
