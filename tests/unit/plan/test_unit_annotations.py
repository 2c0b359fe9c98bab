"""Properties of a unit in a container's annotations."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.plan.unit_annotations import PREFIX, annotated_properties


def read(name: str, text: str) -> tuple[str, tuple[str, object]]:
    (found,) = annotated_properties({"other": "x", PREFIX + name: text})
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)),
        ("'inactive-or-failed'", ("s", "inactive-or-failed")),
        ('"it\'s"', ("s", "it's")),
        ("'a\\'b\\n\\u0041'", ("s", "a'b\nA")),
        ("7", ("i", 7)),
        ("-7", ("i", -7)),
        ("0x10", ("i", 16)),
        ("010", ("i", 8)),
        ("0", ("i", 0)),
        ("uint64 18446744073709551615", ("t", (1 << 64) - 1)),
        ("int64 -1", ("x", -1)),
        ("byte 255", ("y", 255)),
        ("@t 5", ("t", 5)),
        ("['a', 'b']", ("as", ("a", "b"))),
        ("@as []", ("as", ())),
        ("[('/dev/null', 'rw'), ('char-pts', 'r')]", ("a(ss)", (("/dev/null", "rw"), ("char-pts", "r")))),
        ("@a(ss) [('a', 'b')]", ("a(ss)", (("a", "b"),))),
        ("('x', uint64 3)", ("(st)", ("x", 3))),
        ("[byte 1, 2]", ("ay", (1, 2))),
        ("<'x'>", ("v", ("s", "x"))),
        (" false ", ("b", False)),
    ],
)
def test_values(text: str, value: tuple[str, object]) -> None:
    assert read("Any", text) == ("Any", value)


@pytest.mark.parametrize("text", ["456", "uint64 456", "int32 456", "uint16 456"])
def test_seconds_become_microseconds(text: str) -> None:
    assert read("TimeoutStopSec", text) == ("TimeoutStopUSec", ("t", 456_000_000))


def test_microseconds_stay() -> None:
    assert read("TimeoutStopUSec", "uint64 5") == ("TimeoutStopUSec", ("t", 5))


@pytest.mark.parametrize(
    "text",
    ["", "x", "'open", "[1, 2", "[]", "1 2", "byte 256", "int32 99999999999", "uint32 -1", "[1, 'a']", "(1, 2",
     "<1", "string 5", "@as [1]", "0x", "-", "1.5", "@(s) ('a', 'b')", "'\\uzzzz'"],
)  # fmt: skip
def test_no_values(text: str) -> None:
    with pytest.raises(UsageError, match=r"annotations: org\.systemd\.property\.Any"):
        read("Any", text)


@pytest.mark.parametrize("name", ["", "ab", "a-b-c", "Ab1", "ä" * 4])
def test_no_names(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a property"):
        read(name, "1")


@pytest.mark.parametrize("text", ["'x'", "true", "-1"])
def test_no_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of seconds"):
        read("RuntimeMaxSec", text)
