"""Proxies by the environment, as Go programs read it."""

from __future__ import annotations

import pytest

from knarr.registry.proxies import proxy_for, split_port

ENV = {"HTTPS_PROXY": "http://p:1", "http_proxy": "q:2"}


@pytest.mark.parametrize(
    ("scheme", "host", "env", "found"),
    [
        ("https", "a.io", ENV, "http://p:1"),
        ("http", "a.io", ENV, "http://q:2"),
        ("https", "a.io", {}, ""),
        ("https", "localhost:5000", ENV, ""),
        ("http", "127.0.0.9", ENV, ""),
        ("http", "[::1]:80", ENV, ""),
        ("http", "a.io", {"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}, ""),
        ("https", "a.io", {"https_proxy": "l", "HTTPS_PROXY": "U"}, "http://U"),
    ],
)
def test_which(scheme: str, host: str, env: dict[str, str], found: str) -> None:
    assert proxy_for(scheme, host, env) == found


@pytest.mark.parametrize(
    ("rules", "host", "excepted"),
    [
        ("*", "a.io", True),
        ("a.io", "a.io", True),
        ("a.io", "A.IO:443", True),
        ("a.io", "x.a.io", True),
        ("a.io", "xa.io", False),
        (".a.io", "a.io", False),
        (".a.io", "x.a.io", True),
        ("*.a.io", "x.a.io", True),
        ("b.io, a.io", "a.io", True),
        ("b.io a.io", "a.io", True),
        ("a.io:443", "a.io", True),
        ("a.io:5000", "a.io", False),
        ("a.io:5000", "a.io:5000", True),
        ("10.0.0.0/8", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "a.io", False),
        ("fd00::/8", "[fd00::1]:5000", True),
        ("10.0.0.1", "10.0.0.1:5000", True),
        ("10.0.0.1:5000", "10.0.0.1:5000", True),
        ("10.0.0.1:5001", "10.0.0.1:5000", False),
        ("::2", "[::2]", True),
        ("10.0.0.0/99", "10.0.0.1", False),
        ("", "a.io", False),
        (",,", "a.io", False),
    ],
)
def test_exceptions(rules: str, host: str, excepted: bool) -> None:
    assert (proxy_for("https", host, {**ENV, "NO_PROXY": rules}) == "") is excepted


def test_ports() -> None:
    assert split_port("[::1]:5000") == ("::1", "5000")
    assert split_port("[::1]", "80") == ("::1", "80")
    assert split_port("a", "443") == ("a", "443")
