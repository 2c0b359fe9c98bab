"""Error answers as lines for people, whatever is in them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import NotFound, RemoteError
from knarr.oci.reference import parse
from knarr.registry.failures import blob_failure, clean, errors_of, manifest_failure

REFERENCE = parse("quay.io/a/b:c")


def test_codes_and_words() -> None:
    body = json.dumps(
        {"errors": [{"code": "A_B"}, {"code": "C", "message": "see"}, {"message": "see"}, 7]}
    ).encode()
    assert errors_of(body) == ({"A_B", "C", ""}, "a b; see")
    assert errors_of(b'{"details":"incorrect username or password"}') == (
        frozenset(),
        "incorrect username or password",
    )
    assert errors_of(b"<html>") == (frozenset(), "")
    assert errors_of(b"[]") == (frozenset(), "")


def test_dockers_words() -> None:
    denied = manifest_failure(REFERENCE, "quay.io", 401, b"")
    assert denied.message == (
        "pull access denied for quay.io/a/b, repository does not exist or may require authorization"
    )
    assert denied.hint == "if it is private: `knarr login quay.io`"
    assert manifest_failure(REFERENCE, "quay.io", 404, b"").message == "manifest for quay.io/a/b:c not found"


@given(st.integers(200, 599), st.binary(max_size=200) | st.builds(
    lambda code, message: json.dumps({"errors": [{"code": code, "message": message}]}).encode(), st.text(), st.text()
))  # fmt: skip
def test_any_answer_is_one_printable_line(status: int, body: bytes) -> None:
    for failure in (
        manifest_failure(REFERENCE, "quay.io", status, body),
        blob_failure(REFERENCE, "sha256:" + "a" * 64, "quay.io", status, body),
    ):
        assert isinstance(failure, (NotFound, RemoteError))
        assert failure.message.isprintable()
        assert len(failure.message) < 600


def test_terminal_sequences_do_not_pass() -> None:
    assert clean("\x1b]0;owned\x07\r\n") == "]0;owned"
    assert clean(7) == ""
