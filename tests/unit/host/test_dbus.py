"""Messages of D-Bus: ours are read as we wrote them, by us and by another implementation, and damage is an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.host import dbus

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
BASIC: dict[str, st.SearchStrategy[Any]] = {
    "y": st.integers(0, 255),
    "b": st.booleans(),
    "n": st.integers(-(1 << 15), (1 << 15) - 1),
    "q": st.integers(0, (1 << 16) - 1),
    "i": st.integers(-(1 << 31), (1 << 31) - 1),
    "u": st.integers(0, (1 << 32) - 1),
    "x": st.integers(-(1 << 63), (1 << 63) - 1),
    "t": st.integers(0, (1 << 64) - 1),
    "d": st.floats(allow_nan=False),
    "s": TEXT,
    "g": st.sampled_from(["", "s", "a{sv}", "(ii)"]),
}

Typed = tuple[str, Any]


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    struct = st.lists(inner, min_size=1, max_size=3).map(
        lambda members: ("(" + "".join(k for k, _ in members) + ")", tuple(v for _, v in members))
    )
    array = inner.filter(lambda typed: typed[0] != "y").flatmap(
        lambda typed: st.integers(0, 3).map(lambda n: ("a" + typed[0], [typed[1]] * n))
    )
    table = inner.map(lambda typed: ("a{s" + typed[0] + "}", {"key": typed[1]}))
    return st.one_of(struct, array, table, inner.map(lambda typed: ("v", typed)))


TYPED = st.recursive(
    st.one_of(*(values.map(lambda v, k=kind: (k, v)) for kind, values in BASIC.items())),
    containers,
    max_leaves=6,
) | st.binary(max_size=9).map(lambda data: ("ay", data))


def call(signature: str, body: tuple[Any, ...]) -> bytes:
    return dbus.method_call(7, "org.a", "/org/a", "org.a.I", "Do", signature, body)


@given(st.lists(TYPED, max_size=4))
def test_round_trip(typed: list[Typed]) -> None:
    signature, body = "".join(k for k, _ in typed), tuple(v for _, v in typed)
    data = call(signature, body)
    assert dbus.message_size(data) == len(data)
    message = dbus.parse(data)
    assert (message.kind, message.serial, message.body) == (dbus.METHOD_CALL, 7, body)
    assert message.fields[dbus.MEMBER] == "Do" and message.fields.get(dbus.SIGNATURE, "") == signature


@given(st.lists(TYPED, max_size=4))
def test_another_implementation_reads_it(typed: list[Typed]) -> None:
    jeepney = pytest.importorskip("jeepney", reason="this machine lacks: jeepney")
    signature, body = "".join(k for k, _ in typed), tuple(v for _, v in typed)
    parser = jeepney.Parser()
    parser.add_data(call(signature, body))
    assert parser.get_next_message().body == body
    other = jeepney.new_method_call(
        jeepney.DBusAddress("/org/a", bus_name="org.a", interface="org.a.I"), "Do", signature or None, body
    )
    assert dbus.parse(other.serialise(serial=9)).body == body


@given(st.data())
def test_damage_is_a_value_error(data: st.DataObject) -> None:
    good = bytearray(call("sa{sv}ay", ("x", {"a": ("s", "b"), "c": ("at", [1, 2])}, b"xyz")))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        if dbus.message_size(good) == len(good):
            dbus.parse(bytes(good))
    except ValueError:
        pass


def test_too_little_to_know() -> None:
    whole = call("s", ("x",))
    assert dbus.message_size(whole[:15]) == 0
    with pytest.raises(ValueError, match="not a D-Bus message"):
        dbus.message_size(b"HTTP/1.1 400 Bad Request")


@pytest.mark.parametrize("signature", ["a", "(s", "z", "s)", "a{sv"])
def test_bad_signatures(signature: str) -> None:
    with pytest.raises(ValueError, match="bad D-Bus signature"):
        list(dbus.types(signature))
