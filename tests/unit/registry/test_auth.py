"""WWW-Authenticate fields and token answers, by the grammar and beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import RemoteError
from knarr.registry.auth import basic, parse_challenges, read_token
from knarr.registry.credentials import Credential


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"})]),
        ("Basic", [("basic", {})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ('Bearer realm="y", Negotiate, Basic realm=z',
         [("bearer", {"realm": "y"}), ("negotiate", {}), ("basic", {"realm": "z"})]),
        (r'Basic realm="a \"b\" \\ c", charset="UTF-8"', [("basic", {"realm": r'a "b" \ c', "charset": "UTF-8"})]),
        ('BEARER REALM = "y" , Service=s', [("bearer", {"realm": "y", "service": "s"})]),
        ("Bearer a=1,a=2", [("bearer", {"a": "1"})]),
        ("", []),
        (" , ,", []),
        ('Bearer realm="unfinished', [("bearer", {"realm": "unfinished"})]),
        ("Bearer realm=", [("bearer", {"realm": ""})]),
        ("Bearer =x", [("bearer", {}), ("x", {})]),
    ],
)  # fmt: skip
def test_challenges(text: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(c) for c in parse_challenges(text)] == found


@given(st.text(max_size=80) | st.text('Bearer =",\\ab ', max_size=60))
def test_any_field_ends(text: str) -> None:
    for challenge in parse_challenges(text):
        assert challenge.scheme
        assert challenge.scheme == challenge.scheme.lower()


words = st.text("abcdefghijklmnopqrstuvwxyzABC:/.-_", min_size=1, max_size=10)


@given(
    st.lists(
        st.tuples(words.map(str.lower), st.text(st.characters(codec="latin-1"), max_size=10)), max_size=4
    )
)
def test_quoting_round_trip(pairs: list[tuple[str, str]]) -> None:
    pairs = [(k.replace(":", "").replace("/", "") or "k", v) for k, v in pairs]
    quoted = ", ".join(
        f'{k}="{v}"' for k, v in ((k, v.replace("\\", r"\\").replace('"', r"\"")) for k, v in pairs)
    )
    expected: dict[str, str] = {}
    for key, value in pairs:
        expected.setdefault(key, value)
    assert parse_challenges("Bearer " + quoted)[0].parameters == expected


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"token":"t"}', ("t", 60.0)),
        (b'{"access_token":"a","expires_in":300}', ("a", 300.0)),
        (b'{"token":"t","access_token":"a","expires_in":1}', ("t", 60.0)),
        (b'{"token":"t","expires_in":1e300}', ("t", 86400.0)),
        (b'{"token":"t","expires_in":"x"}', ("t", 60.0)),
        (b'{"token":"t","expires_in":true}', ("t", 60.0)),
        (b'{"token":"t","expires_in":-5}', ("t", 60.0)),
    ],
)
def test_tokens(body: bytes, found: tuple[str, float]) -> None:
    assert read_token(body, "h") == found


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token":""}', b'{"token":null}', b'{"token":["a"]}', b"\xff"]
)
def test_answers_without_a_token(body: bytes) -> None:
    with pytest.raises(RemoteError, match="token server h: its answer"):
        read_token(body, "h")


def test_basic() -> None:
    assert basic(Credential("Aladdin", "open sesame")) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
