"""Protocol Buffers' wire format, as far as criu's remote calls need it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError
from knarr.host.protobuf import decode, encode


def test_the_formats_own_examples() -> None:
    assert encode([(1, 150)]) == b"\x08\x96\x01"
    assert encode([(2, "testing")]) == b"\x12\x07testing"
    assert encode([(3, [(1, 150)])]) == b"\x1a\x03\x08\x96\x01"
    assert decode(b"\x08\x96\x01\x12\x07testing\x08\x01") == {1: [150, 1], 2: [b"testing"]}


def test_negative_numbers_and_truth() -> None:
    assert encode([(1, -1)]) == b"\x08" + b"\xff" * 9 + b"\x01"
    assert encode([(4, True), (5, False)]) == b"\x20\x01\x28\x00"


def test_numbers_of_fixed_size_are_passed_over() -> None:
    assert decode(b"\x09" + b"12345678" + b"\x15" + b"1234" + b"\x18\x05")[3] == [5]


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=200))))
)
def test_round_trip(fields: list[tuple[int, int | bytes]]) -> None:
    expected: dict[int, list[int | bytes]] = {}
    for number, value in fields:
        expected.setdefault(number, []).append(value)
    assert decode(encode(fields)) == expected


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x12\x05abc", b"\x0b", b"\xff" * 11, b"\x09123", b"\x08" + b"\xff" * 10]
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(DataError, match="protocol buffers"):
        decode(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except DataError:
        return
