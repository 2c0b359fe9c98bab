"""registries.toml: what it may say, and where a reference is then looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knarr.errors import DataError, HostError, UsageError
from knarr.oci.reference import parse
from knarr.registry.registries import Registries, Settings, decode, is_loopback, load, split_location


def read(**document: Any) -> Registries:
    return decode(document, "f")


def places(registries: Registries, text: str) -> list[str]:
    return [f"{'|'.join(e.schemes)}://{e.host}/{e.path}" for e in registries.endpoints(parse(text))]


def test_without_settings() -> None:
    nothing = Registries()
    assert places(nothing, "busybox") == ["https://registry-1.docker.io/library/busybox"]
    assert places(nothing, "quay.io/a/b") == ["https://quay.io/a/b"]
    assert places(nothing, "localhost:5000/a") == ["http|https://localhost:5000/a"]
    assert not nothing.endpoints(parse("127.1.2.3/a"))[0].trust.verify
    assert nothing.endpoints(parse("quay.io/a"))[0].trust.verify


def test_mirrors_stand_before_the_registry() -> None:
    found = read(
        registry={"docker.io": {"mirrors": ["m.io/hub", "http://10.0.0.5:5000", "https://localhost:1"]}}
    )
    assert places(found, "me/tool") == [
        "https://m.io/hub/me/tool", "http://10.0.0.5:5000/me/tool", "https://localhost:1/me/tool",
        "https://registry-1.docker.io/me/tool",
    ]  # fmt: skip
    ends = found.endpoints(parse("me/tool"))
    assert [e.mirror for e in ends] == [True, True, True, False]
    assert [e.key for e in ends][0::3] == ["m.io/hub/me/tool", "docker.io/me/tool"]
    assert ends[1].trust.plain
    assert ends[0].trust.verify


def test_a_mirrors_own_table_says_how_far_it_is_trusted() -> None:
    found = read(registry={"a.io": {"mirrors": ["m.io"]}, "m.io": {"insecure": True, "mirrors": ["other"]}})
    assert places(found, "a.io/x") == ["https|http://m.io/x", "https://a.io/x"]


def test_the_longest_key_counts() -> None:
    found = read(
        registry={"a.io": {"ca": "/1"}, "a.io/team": {"ca": "/2"}, "a.io/team/x/": {"blocked": True}}
    )
    names = ("a.io/b", "a.io/team/b", "a.io/teams", "b.io/a.io")
    assert [found.settings(name).ca for name in names] == ["/1", "/2", "/1", ""]
    with pytest.raises(UsageError, match="blocked"):
        found.endpoints(parse("a.io/team/x"))
    found.endpoints(parse("a.io/team/xy"))


def test_insecure_both_ways() -> None:
    both = {"insecure": True, "ca": "/c"}
    found = read(registry={"a.io": {"insecure": True}, "localhost": {"insecure": False}, "b.io": both})
    assert places(found, "a.io/x") == ["https|http://a.io/x"]
    assert places(found, "localhost/x") == ["https://localhost/x"]
    assert [found.trust(h).verify for h in ("a.io", "localhost", "b.io", "c.io")] == [False, True, True, True]


def test_a_loopback_registry_with_an_authority_is_asked_by_tls_first() -> None:
    found = read(registry={"localhost:5000": {"ca": "/c"}})
    assert places(found, "localhost:5000/x") == ["https|http://localhost:5000/x"]


def test_short_names() -> None:
    found = read(search=["docker.io", "q.io"], aliases={"deb": "r.io/base/debian", "me/tool": "localhost/t"})

    def names(text: str) -> list[str]:
        return [str(r) for r in found.resolve(text)]

    assert names("busybox:1") == ["docker.io/library/busybox:1", "q.io/busybox:1"]
    assert names("deb:12") == ["r.io/base/debian:12"]
    assert names("me/tool") == ["localhost/t:latest"]
    assert names("q.io/deb") == ["q.io/deb:latest"]
    assert [str(r) for r in Registries().resolve("a/b")] == ["docker.io/a/b:latest"]
    with pytest.raises(UsageError):
        found.resolve("Deb")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"serach": []}, "f: unknown key 'serach'; known are search, aliases, registry"),
        ({"search": "docker.io"}, "f: search: expected an array of strings"),
        ({"aliases": {"a": "b"}}, "f: aliases.a: expected a name with its registry"),
        ({"aliases": {"a": 1}}, "f: aliases.a"),
        ({"registry": []}, "f: registry: expected a table"),
        ({"registry": {"a": 1}}, 'f: registry."a": expected a table'),
        ({"registry": {"a": {"mirror": []}}}, "registry.\"a\": unknown key 'mirror'"),
        ({"registry": {"a": {"mirrors": ["ftp://x"]}}}, "is not .http"),
        ({"registry": {"a": {"mirrors": ["u:p@x"]}}}, "is not .http"),
        ({"registry": {"a": {"mirrors": [""]}}}, "expected an array of strings"),
        ({"registry": {"a": {"insecure": "yes"}}}, "insecure: expected true or false"),
        ({"registry": {"a": {"ca": 1}}}, "ca: expected a string"),
        ({"registry": {"a": {"mirrors-only": True}}}, "mirrors-only without mirrors"),
    ],
)
def test_faults_name_their_place(document: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(document, "f")


def test_files_are_merged_and_the_first_wins(tmp_path: Path) -> None:
    own, system = tmp_path / "own", tmp_path / "etc"
    for directory in (own, system):
        directory.mkdir()
    (own / "registries.toml").write_text('[aliases]\na = "x.io/own"\n[registry."a.io"]\nca = "/own"\n')
    (system / "registries.toml").write_text(
        'search = ["s.io"]\n[aliases]\na = "x.io/etc"\nb = "x.io/b"\n'
        '[registry."a.io"]\ninsecure = true\n[registry."b.io"]\n'
    )
    found = load([str(own), str(system), str(tmp_path / "absent")])
    assert found.search == ("s.io",)
    assert found.aliases == {"a": "x.io/own", "b": "x.io/b"}
    assert found.registries == {"a.io": Settings(ca="/own"), "b.io": Settings()}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "registries.toml"
    path.write_text("search = [")
    with pytest.raises(DataError, match="registries.toml: "):
        load([str(tmp_path)])
    path.unlink()
    path.mkdir()
    with pytest.raises(HostError, match="registries.toml: "):
        load([str(tmp_path)])


def test_loopback() -> None:
    for host in (
        "localhost",
        "localhost:5000",
        "127.0.0.1",
        "127.255.0.1:80",
        "[::1]",
        "[::1]:5000",
        "a.localhost",
    ):
        assert is_loopback(host), host
    for host in (
        "localhost.io",
        "128.0.0.1",
        "127.0.0.1.io",
        "127.0.0.300",
        "[::2]",
        "a",
        "127.1",
        "xlocalhost",
    ):
        assert not is_loopback(host), host


def test_locations() -> None:
    assert split_location("http://a:1/b/c/") == ("http", "a:1", "b/c")
    assert split_location("a") == ("", "a", "")
