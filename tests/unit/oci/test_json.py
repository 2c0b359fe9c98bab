"""JSON by the C scanner: the same values and the same strictness as the standard library's package."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError
from knarr.oci.json import dumps, loads

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_round_trip_and_the_standard_librarys_opinion(value: object) -> None:
    assert loads(dumps(value)) == value
    assert json.loads(dumps(value)) == value
    assert loads(json.dumps(value, indent=1)) == value
    assert dumps(value) == json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "[1,]", '{"a":}', "nul", "NaN", "-Infinity", "1 2", '"\n"', '"\\x"', "{'a':1}", b"\xff",
        "[" * 100_000,
        '{"a":1}}', "01", "+1", "\u00a01",
    ],
)  # fmt: skip
def test_refused_with_one_line(text: str | bytes) -> None:
    with pytest.raises(DataError, match="JSON: "):
        loads(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error_of_ours(body: bytes) -> None:
    try:
        loads(body)
    except DataError:
        pass


def test_huge_numbers_are_an_error_of_ours() -> None:
    with pytest.raises(DataError):
        loads("9" * 100_000)


def test_sorted() -> None:
    assert dumps({"b": 1, "a": (1, 2)}, sort_keys=True) == '{"a":[1,2],"b":1}'
