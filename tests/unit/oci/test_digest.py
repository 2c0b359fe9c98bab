"""Digests: only what is safe as a path component and can be verified."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError
from knarr.oci.digest import Digest

GOOD = "sha256:" + "a" * 64


def test_parts() -> None:
    digest = Digest("sha512:" + "0f" * 64)
    assert (digest.algorithm, digest.hex) == ("sha512", "0f" * 64)
    assert digest == "sha512:" + "0f" * 64


@pytest.mark.parametrize(
    "text",
    [
        "", "sha256", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 32, "a" * 64,
        "sha256:../" + "a" * 61, GOOD + "\n",
        "sha512:" + "a" * 64, "sha256:" + "a" * 63 + "\u0661", "sha256:sha256:" + "a" * 57,
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a digest knarr supports"):
        Digest(text)


@given(st.text(max_size=140))
def test_what_is_accepted_is_plain(text: str) -> None:
    try:
        digest = Digest(text)
    except DataError as e:
        assert e.message.isprintable()
        return
    assert digest.hex.isalnum()
