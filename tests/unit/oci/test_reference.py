"""References: docker's grammar, docker's defaults, docker's words when they are wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.oci.reference import Reference, has_domain, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "complete", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/me/tool", "docker.io/me/tool:latest", "me/tool:latest"),
        ("me/tool:v1", "docker.io/me/tool:v1", "me/tool:v1"),
        ("quay.io/a/b", "quay.io/a/b:latest", "quay.io/a/b:latest"),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("host:5000/x:y", "host:5000/x:y", "host:5000/x:y"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest", "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        ("Host/a", "Host/a:latest", "Host/a:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"quay.io/a:b@{DIGEST}", f"quay.io/a:b@{DIGEST}", f"quay.io/a:b@{DIGEST}"),
        ("x/a.b__c--d/e", "docker.io/x/a.b__c--d/e:latest", "x/a.b__c--d/e:latest"),
        ("host.io:5000", "docker.io/library/host.io:5000", "host.io:5000"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"),
        ("x:_.-", "docker.io/library/x:_.-", "x:_.-"),
        ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ],
)
def test_completed(text: str, complete: str, familiar: str) -> None:
    assert str(parse(text)) == complete
    assert parse(text).familiar == familiar


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "/", "a/", "/a", "a//b", "a:", ":tag", "a:b:c", "a b", "a\n", "a\0b", "é", "-a", "a-", "_a", ".a",
        "a..b", "a___b", "a._b", "a-.b", "a/-b", "host.io/", "host.io:/a", "host.io:99999/a",
        "host.io:x/a", "-h.io/a", "h-.io/a", "h..io/a", "[::1/a", "[]/a", "[::1]5000/a", "a@sha256:12", "a@b", "a@",
        f"a@{DIGEST}@{DIGEST}", f"@{DIGEST}", "a@" + DIGEST.upper(), "a:" + "t" * 129, "a:-t", "a:.t", "a/../b", "..",
        "https://quay.io/a",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid reference format"):
        parse(text)


def test_capitals_are_refused_in_dockers_words() -> None:
    with pytest.raises(UsageError, match=r"repository name \(library/BusyBox\) must be lowercase"):
        parse("BusyBox")


def test_an_image_id_is_not_a_name() -> None:
    with pytest.raises(UsageError, match="cannot specify 64-byte hexadecimal strings"):
        parse("a" * 64)


def test_lengths() -> None:
    assert parse("x/" + "a" * 253).path == "x/" + "a" * 253
    with pytest.raises(UsageError, match="must not be more than 255 characters"):
        parse("x/" + "a" * 254)
    assert parse("a:" + "t" * 128).tag == "t" * 128


def test_a_digest_needs_no_tag() -> None:
    assert parse(f"busybox@{DIGEST}") == Reference("docker.io", "library/busybox", "", DIGEST)
    assert parse(f"busybox:1@{DIGEST}").version == DIGEST
    assert parse("busybox:1").version == "1"


def test_which_words_name_their_registry() -> None:
    assert [t for t in ("a", "a/b", "a.b", "a:1", "a.b/c", "a:1/c", "localhost/c", "A/c") if has_domain(t)] == [
        "a.b/c", "a:1/c", "localhost/c", "A/c",
    ]  # fmt: skip


components = st.from_regex(r"\A[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+){0,3}\Z").filter(lambda c: len(c) < 40)
paths = st.lists(components, min_size=1, max_size=4).map("/".join).filter(lambda p: len(p) != 64)
domains = st.sampled_from(
    ["quay.io", "localhost", "localhost:5000", "127.0.0.1:80", "[::1]:5000", "Reg-1.example.com"]
)
tags = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda h: f"sha256:{h}")


@given(domains, paths, st.none() | tags, st.none() | digests)
def test_round_trip(domain: str, path: str, tag: str | None, digest: str | None) -> None:
    text = f"{domain}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = parse(text)
    assert (found.domain, found.path) == (domain, path)
    assert (found.tag, found.digest) == (tag or ("" if digest else "latest"), digest or "")
    assert parse(str(found)) == found
    assert parse(found.familiar) == found


@given(paths, tags)
def test_familiar_names_mean_the_same(path: str, tag: str) -> None:
    found = parse(f"docker.io/{path}:{tag}")
    assert parse(found.familiar) == found


@given(st.text(max_size=300))
def test_anything_is_either_a_reference_or_one_clear_line(text: str) -> None:
    try:
        found = parse(text)
    except UsageError as e:
        assert e.message.startswith("invalid re")
        assert e.message.isprintable()
        return
    assert parse(str(found)) == found
    assert str(found).isascii()
    assert ".." not in found.path.split("/")
